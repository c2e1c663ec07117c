package messages

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// FX_FAST_ARMOR_AP_REQUEST is the one armor type: an AP-REQ (RFC 6113, Section 5.4.1.1).
const FX_FAST_ARMOR_AP_REQUEST = 1

// KrbFastArmor says which key protects a FAST exchange.
//
//	KrbFastArmor ::= SEQUENCE {
//	        armor-type      [0] Int32,
//	        armor-value     [1] OCTET STRING,
//	        ...
//	}
//
// (RFC 6113, Section 5.4.1)
type KrbFastArmor struct {
	ArmorType  int32
	ArmorValue []byte
}

func codeKrbFastArmor(c *der.Codec, a *KrbFastArmor) { codeTyped(c, 0, &a.ArmorType, &a.ArmorValue) }

// KrbFastArmoredReq is the value of PA_FX_FAST in a request. It is written with the CHOICE around
// it.
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
// (RFC 6113, Section 5.4.2)
type KrbFastArmoredReq struct {
	Armor       *KrbFastArmor // nil in a TGS-REQ with implicit armor: subkey and ticket of its PA_TGS_REQ
	ReqChecksum Checksum      // over the KDC-REQ-BODY (AS) or the AP-REQ (TGS), usage 50
	EncFastReq  EncryptedData // under the armor key, usage 51
}

func ParseKrbFastArmoredReq(b []byte) (*KrbFastArmoredReq, error) {
	return parse(b, "PA-FX-FAST-REQUEST", codePAFXFastRequest)
}

func (r *KrbFastArmoredReq) Marshal() []byte { return der.AppendCoded(nil, codePAFXFastRequest, r) }

func codePAFXFastRequest(c *der.Codec, r *KrbFastArmoredReq) {
	codeArmoredData(c, func() {
		der.Optional(c, 0, r.Armor != nil, der.Pointer(codeKrbFastArmor), &r.Armor)
		der.Field(c, 1, codeChecksum, &r.ReqChecksum)
		der.Field(c, 2, codeEncryptedData, &r.EncFastReq)
	})
}

// FastOptions are the options of a KrbFastReq. Bit 0 is the highest; bits 0 to 15 are critical.
//
//	FastOptions ::= KerberosFlags
//
// (RFC 6113, Section 5.4.2)
type FastOptions uint32

// The bits of FastOptions.
const (
	FAST_OPT_HIDE_CLIENT_NAMES FastOptions = 0x40000000
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
// (RFC 6113, Section 5.4.2)
type KrbFastReq struct {
	FastOptions FastOptions
	PAData      MethodData
	ReqBody     KDCReqBody
}

func ParseKrbFastReq(b []byte) (*KrbFastReq, error) {
	return parsePadded(b, "KrbFastReq", codeKrbFastReq)
}

func (r *KrbFastReq) Marshal() []byte { return der.AppendCoded(nil, codeKrbFastReq, r) }

func codeKrbFastReq(c *der.Codec, r *KrbFastReq) {
	c.Sequence(func() {
		der.Field(c, 0, der.Flags, &r.FastOptions)
		der.Field(c, 1, codeMethodData, &r.PAData)
		der.Field(c, 2, codeKDCReqBody, &r.ReqBody)
	})
}

// KrbFastArmoredRep is the value of PA_FX_FAST in a reply or an error. It is written with the
// CHOICE around it.
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
// (RFC 6113, Section 5.4.3)
type KrbFastArmoredRep struct {
	EncFastRep EncryptedData // under the armor key, usage 52
}

func ParseKrbFastArmoredRep(b []byte) (*KrbFastArmoredRep, error) {
	return parse(b, "PA-FX-FAST-REPLY", codePAFXFastReply)
}

func (r *KrbFastArmoredRep) Marshal() []byte { return der.AppendCoded(nil, codePAFXFastReply, r) }

func codePAFXFastReply(c *der.Codec, r *KrbFastArmoredRep) {
	codeArmoredData(c, func() { der.Field(c, 0, codeEncryptedData, &r.EncFastRep) })
}

// codeArmoredData codes the one alternative of PA-FX-FAST-REQUEST and PA-FX-FAST-REPLY.
func codeArmoredData(c *der.Codec, fields func()) {
	c.Element(der.Context(0), func() { c.Sequence(fields) })
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
// (RFC 6113, Section 5.4.3)
type KrbFastResponse struct {
	PAData        MethodData
	StrengthenKey enctype.Key
	Finished      *KrbFastFinished // there when the exchange has succeeded
	Nonce         uint32
}

func ParseKrbFastResponse(b []byte) (*KrbFastResponse, error) {
	return parsePadded(b, "KrbFastResponse", codeKrbFastResponse)
}

func (r *KrbFastResponse) Marshal() []byte { return der.AppendCoded(nil, codeKrbFastResponse, r) }

func codeKrbFastResponse(c *der.Codec, r *KrbFastResponse) {
	c.Sequence(func() {
		der.Field(c, 0, codeMethodData, &r.PAData)
		der.Optional(c, 1, !r.StrengthenKey.IsZero(), codeKey, &r.StrengthenKey)
		der.Optional(c, 2, r.Finished != nil, der.Pointer(codeKrbFastFinished), &r.Finished)
		der.Field(c, 3, der.Uint32, &r.Nonce)
	})
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
// (RFC 6113, Section 5.4.3)
type KrbFastFinished struct {
	Timestamp      time.Time // on the KDC's clock
	USec           int32     // microseconds, 0 to 999999
	CRealm         string
	CName          PrincipalName
	TicketChecksum Checksum // over the Ticket, armor key, usage 53
}

func codeKrbFastFinished(c *der.Codec, f *KrbFastFinished) {
	c.Sequence(func() {
		der.Field(c, 0, der.Time, &f.Timestamp)
		der.Field(c, 1, der.Int32, &f.USec)
		der.Field(c, 2, der.GeneralString, &f.CRealm)
		der.Field(c, 3, codePrincipalName, &f.CName)
		der.Field(c, 4, codeChecksum, &f.TicketChecksum)
	})
}
