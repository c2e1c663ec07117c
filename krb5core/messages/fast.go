package messages

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// FX_FAST_ARMOR_AP_REQUEST is the one armor type: an AP-REQ (RFC 6113 5.4.1.1).
const FX_FAST_ARMOR_AP_REQUEST = 1

// KrbFastArmor says which key protects a FAST exchange.
//
//	KrbFastArmor ::= SEQUENCE {
//	        armor-type      [0] Int32,
//	        armor-value     [1] OCTET STRING,
//	        ...
//	}
//
// (RFC 6113 5.4.1)
type KrbFastArmor struct {
	ArmorType  int32
	ArmorValue []byte
}

// Append appends the DER encoding.
func (a KrbFastArmor) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, a.ArmorType)
		return der.AppendField(dst, 1, der.AppendOctetString, a.ArmorValue)
	})
}

func readKrbFastArmor(s *der.String, a *KrbFastArmor) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadInt32, &a.ArmorType) &&
		der.ReadField(&seq, 1, der.ReadOctets, &a.ArmorValue) &&
		der.SkipUnknown(&seq, 1)
}

// KrbFastArmoredReq is the value of PA_FX_FAST in a request. It is written with the CHOICE around it.
//
//	PA-FX-FAST-REQUEST ::= CHOICE {
//	        armored-data    [0] KrbFastArmoredReq,
//	        ...
//	}
//
//	KrbFastArmoredReq ::= SEQUENCE {
//	        armor           [0] KrbFastArmor OPTIONAL,
//	        req-checksum    [1] Checksum,
//	        enc-fast-req    [2] EncryptedData, -- KrbFastReq --
//	        ...
//	}
//
// (RFC 6113 5.4.2)
type KrbFastArmoredReq struct {
	Armor       *KrbFastArmor // nil in a TGS-REQ with implicit armor: subkey and ticket of its PA_TGS_REQ
	ReqChecksum Checksum      // over the KDC-REQ-BODY (AS) or the AP-REQ (TGS), usage 50
	EncFastReq  EncryptedData // under the armor key, usage 51
}

// ParseKrbFastArmoredReq reads a PA-FX-FAST-REQUEST.
func ParseKrbFastArmoredReq(b []byte) (*KrbFastArmoredReq, error) {
	return parse(b, "PA-FX-FAST-REQUEST", readPAFXFastRequest)
}

// Append appends the encoding of a PA-FX-FAST-REQUEST.
func (r *KrbFastArmoredReq) Append(dst []byte) []byte {
	return der.AppendField(dst, 0, der.AppendSequence, func(dst []byte) []byte {
		if r.Armor != nil {
			dst = der.AppendField(dst, 0, der.AppendValue, *r.Armor)
		}
		dst = der.AppendField(dst, 1, der.AppendValue, r.ReqChecksum)
		return der.AppendField(dst, 2, der.AppendValue, r.EncFastReq)
	})
}

// Marshal returns the encoding of a PA-FX-FAST-REQUEST.
func (r *KrbFastArmoredReq) Marshal() []byte { return r.Append(nil) }

func readPAFXFastRequest(s *der.String, r *KrbFastArmoredReq) bool {
	var seq der.String
	return der.ReadField(s, 0, der.ReadSequence, &seq) &&
		der.ReadOptional(&seq, 0, der.ReadPointer(readKrbFastArmor), &r.Armor) &&
		der.ReadField(&seq, 1, readChecksum, &r.ReqChecksum) &&
		der.ReadField(&seq, 2, readEncryptedData, &r.EncFastReq) &&
		der.SkipUnknown(&seq, 2)
}

// FastOptions are the options of a KrbFastReq. Bit 0 is the highest; bits 0 to 15 are critical.
//
//	FastOptions ::= KerberosFlags
//
// (RFC 6113 5.4.2)
type FastOptions uint32

// The bits of FastOptions.
const (
	FAST_OPT_HIDE_CLIENT_NAMES    FastOptions = 0x40000000
	FAST_OPT_KDC_FOLLOW_REFERRALS FastOptions = 0x00008000
)

// KrbFastReq is the true request within a FAST request.
//
//	KrbFastReq ::= SEQUENCE {
//	        fast-options    [0] FastOptions,
//	        padata          [1] SEQUENCE OF PA-DATA,
//	        req-body        [2] KDC-REQ-BODY,
//	        ...
//	}
//
// (RFC 6113 5.4.2)
type KrbFastReq struct {
	FastOptions FastOptions
	PAData      MethodData
	ReqBody     KDCReqBody
}

// ParseKrbFastReq reads a KrbFastReq from a decrypted plaintext, padding and all.
func ParseKrbFastReq(b []byte) (*KrbFastReq, error) {
	return parsePadded(b, "KrbFastReq", readKrbFastReq)
}

// Append appends the DER encoding.
func (r *KrbFastReq) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendFlags, r.FastOptions)
		dst = der.AppendField(dst, 1, der.AppendValue, r.PAData)
		return der.AppendField(dst, 2, der.AppendValue, &r.ReqBody)
	})
}

// Marshal returns the DER encoding.
func (r *KrbFastReq) Marshal() []byte { return r.Append(nil) }

func readKrbFastReq(s *der.String, r *KrbFastReq) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadFlags, &r.FastOptions) &&
		der.ReadField(&seq, 1, readMethodData, &r.PAData) &&
		der.ReadField(&seq, 2, readKDCReqBody, &r.ReqBody) &&
		der.SkipUnknown(&seq, 2)
}

// KrbFastArmoredRep is the value of PA_FX_FAST in a reply or an error. It is written with the CHOICE around it.
//
//	PA-FX-FAST-REPLY ::= CHOICE {
//	        armored-data    [0] KrbFastArmoredRep,
//	        ...
//	}
//
//	KrbFastArmoredRep ::= SEQUENCE {
//	        enc-fast-rep    [0] EncryptedData, -- KrbFastResponse --
//	        ...
//	}
//
// (RFC 6113 5.4.3)
type KrbFastArmoredRep struct {
	EncFastRep EncryptedData // under the armor key, usage 52
}

// ParseKrbFastArmoredRep reads a PA-FX-FAST-REPLY.
func ParseKrbFastArmoredRep(b []byte) (*KrbFastArmoredRep, error) {
	return parse(b, "PA-FX-FAST-REPLY", readPAFXFastReply)
}

// Append appends the encoding of a PA-FX-FAST-REPLY.
func (r *KrbFastArmoredRep) Append(dst []byte) []byte {
	return der.AppendField(dst, 0, der.AppendSequence, func(dst []byte) []byte {
		return der.AppendField(dst, 0, der.AppendValue, r.EncFastRep)
	})
}

// Marshal returns the encoding of a PA-FX-FAST-REPLY.
func (r *KrbFastArmoredRep) Marshal() []byte { return r.Append(nil) }

func readPAFXFastReply(s *der.String, r *KrbFastArmoredRep) bool {
	var seq der.String
	return der.ReadField(s, 0, der.ReadSequence, &seq) &&
		der.ReadField(&seq, 0, readEncryptedData, &r.EncFastRep) &&
		der.SkipUnknown(&seq, 0)
}

// KrbFastResponse is the true reply, or error, within a FAST reply.
//
//	KrbFastResponse ::= SEQUENCE {
//	        padata          [0] SEQUENCE OF PA-DATA,
//	        strengthen-key  [1] EncryptionKey OPTIONAL,
//	        finished        [2] KrbFastFinished OPTIONAL,
//	        nonce           [3] UInt32,
//	        ...
//	}
//
// (RFC 6113 5.4.3)
type KrbFastResponse struct {
	PAData        MethodData
	StrengthenKey enctype.Key
	Finished      *KrbFastFinished // there when the exchange has succeeded
	Nonce         uint32
}

// ParseKrbFastResponse reads a KrbFastResponse from a decrypted plaintext, padding and all.
func ParseKrbFastResponse(b []byte) (*KrbFastResponse, error) {
	return parsePadded(b, "KrbFastResponse", readKrbFastResponse)
}

// Append appends the DER encoding.
func (r *KrbFastResponse) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendValue, r.PAData)
		dst = appendOptionalKey(dst, 1, r.StrengthenKey)
		if r.Finished != nil {
			dst = der.AppendField(dst, 2, der.AppendValue, r.Finished)
		}
		return der.AppendField(dst, 3, der.AppendInt, r.Nonce)
	})
}

// Marshal returns the DER encoding.
func (r *KrbFastResponse) Marshal() []byte { return r.Append(nil) }

func readKrbFastResponse(s *der.String, r *KrbFastResponse) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, readMethodData, &r.PAData) &&
		der.ReadOptional(&seq, 1, readKey, &r.StrengthenKey) &&
		der.ReadOptional(&seq, 2, der.ReadPointer(readKrbFastFinished), &r.Finished) &&
		der.ReadField(&seq, 3, der.ReadUint32, &r.Nonce) &&
		der.SkipUnknown(&seq, 3)
}

// KrbFastFinished ties a reply to the ticket in it.
//
//	KrbFastFinished ::= SEQUENCE {
//	        timestamp       [0] KerberosTime,
//	        usec            [1] Microseconds,
//	        crealm          [2] Realm,
//	        cname           [3] PrincipalName,
//	        ticket-checksum [4] Checksum,
//	        ...
//	}
//
// (RFC 6113 5.4.3)
type KrbFastFinished struct {
	Timestamp      time.Time // on the KDC's clock
	USec           int32     // microseconds, 0 to 999999
	CRealm         string
	CName          PrincipalName
	TicketChecksum Checksum // over the Ticket, armor key, usage 53
}

// Append appends the DER encoding.
func (f *KrbFastFinished) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendTime, f.Timestamp)
		dst = der.AppendField(dst, 1, der.AppendInt, f.USec)
		dst = der.AppendField(dst, 2, der.AppendGeneralString, f.CRealm)
		dst = der.AppendField(dst, 3, der.AppendValue, f.CName)
		return der.AppendField(dst, 4, der.AppendValue, f.TicketChecksum)
	})
}

func readKrbFastFinished(s *der.String, f *KrbFastFinished) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadTime, &f.Timestamp) &&
		der.ReadField(&seq, 1, der.ReadInt32, &f.USec) &&
		der.ReadField(&seq, 2, der.ReadGeneralString, &f.CRealm) &&
		der.ReadField(&seq, 3, readPrincipalName, &f.CName) &&
		der.ReadField(&seq, 4, readChecksum, &f.TicketChecksum) &&
		der.SkipUnknown(&seq, 4)
}
