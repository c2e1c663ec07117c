package messages

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// APReq presents a ticket to its service.
//
//	AP-REQ          ::= [APPLICATION 14] SEQUENCE {
//	        pvno            [0] INTEGER (5),
//	        msg-type        [1] INTEGER (14),
//	        ap-options      [2] APOptions,
//	        ticket          [3] Ticket,
//	        authenticator   [4] EncryptedData -- Authenticator
//	}
//
// (RFC 4120 5.5.1)
type APReq struct {
	APOptions     APOptions
	Ticket        Ticket
	Authenticator EncryptedData
}

// ParseAPReq reads an AP-REQ.
func ParseAPReq(b []byte) (*APReq, error) { return parse(b, "AP-REQ", readAPReq) }

// Append appends the DER encoding.
func (r *APReq) Append(dst []byte) []byte {
	return appendApplication(dst, uint8(KRB_AP_REQ), func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, PVNO)
		dst = der.AppendField(dst, 1, der.AppendInt, KRB_AP_REQ)
		dst = der.AppendField(dst, 2, der.AppendFlags, r.APOptions)
		dst = der.AppendField(dst, 3, der.AppendValue, r.Ticket)
		return der.AppendField(dst, 4, der.AppendValue, r.Authenticator)
	})
}

// Marshal returns the DER encoding.
func (r *APReq) Marshal() []byte { return r.Append(nil) }

func readAPReq(s *der.String, r *APReq) bool {
	var seq der.String
	return readApplication(s, uint8(KRB_AP_REQ), &seq) &&
		readConst(&seq, 0, PVNO) &&
		readConst(&seq, 1, int32(KRB_AP_REQ)) &&
		der.ReadField(&seq, 2, der.ReadFlags, &r.APOptions) &&
		der.ReadField(&seq, 3, readTicket, &r.Ticket) &&
		der.ReadField(&seq, 4, readEncryptedData, &r.Authenticator) &&
		der.SkipUnknown(&seq, 4)
}

// APRep is the service's proof of itself, in answer to an APReq.
//
//	AP-REP          ::= [APPLICATION 15] SEQUENCE {
//	        pvno            [0] INTEGER (5),
//	        msg-type        [1] INTEGER (15),
//	        enc-part        [2] EncryptedData -- EncAPRepPart
//	}
//
// (RFC 4120 5.5.2)
type APRep struct {
	EncPart EncryptedData
}

// ParseAPRep reads an AP-REP.
func ParseAPRep(b []byte) (*APRep, error) { return parse(b, "AP-REP", readAPRep) }

// Append appends the DER encoding.
func (r *APRep) Append(dst []byte) []byte {
	return appendApplication(dst, uint8(KRB_AP_REP), func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, PVNO)
		dst = der.AppendField(dst, 1, der.AppendInt, KRB_AP_REP)
		return der.AppendField(dst, 2, der.AppendValue, r.EncPart)
	})
}

// Marshal returns the DER encoding.
func (r *APRep) Marshal() []byte { return r.Append(nil) }

func readAPRep(s *der.String, r *APRep) bool {
	var seq der.String
	return readApplication(s, uint8(KRB_AP_REP), &seq) &&
		readConst(&seq, 0, PVNO) &&
		readConst(&seq, 1, int32(KRB_AP_REP)) &&
		der.ReadField(&seq, 2, readEncryptedData, &r.EncPart) &&
		der.SkipUnknown(&seq, 2)
}

// EncAPRepPart is the inside of an APRep. CTime and CUSec must be those of the authenticator.
//
//	EncAPRepPart    ::= [APPLICATION 27] SEQUENCE {
//	        ctime           [0] KerberosTime,
//	        cusec           [1] Microseconds,
//	        subkey          [2] EncryptionKey OPTIONAL,
//	        seq-number      [3] UInt32 OPTIONAL
//	}
//
// (RFC 4120 5.5.2)
type EncAPRepPart struct {
	CTime        time.Time
	CUSec        int32 // microseconds, 0 to 999999
	Subkey       enctype.Key
	SeqNumber    uint32 // of no meaning unless HasSeqNumber
	HasSeqNumber bool
}

const tagEncAPRepPart = 27

// ParseEncAPRepPart reads an EncAPRepPart from a decrypted plaintext, padding and all.
func ParseEncAPRepPart(b []byte) (*EncAPRepPart, error) {
	return parsePadded(b, "EncAPRepPart", readEncAPRepPart)
}

// Append appends the DER encoding.
func (p *EncAPRepPart) Append(dst []byte) []byte {
	return appendApplication(dst, tagEncAPRepPart, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendTime, p.CTime)
		dst = der.AppendField(dst, 1, der.AppendInt, p.CUSec)
		dst = appendOptionalKey(dst, 2, p.Subkey)
		if p.HasSeqNumber {
			dst = der.AppendField(dst, 3, der.AppendInt, p.SeqNumber)
		}
		return dst
	})
}

// Marshal returns the DER encoding.
func (p *EncAPRepPart) Marshal() []byte { return p.Append(nil) }

func readEncAPRepPart(s *der.String, p *EncAPRepPart) bool {
	var seq der.String
	if !readApplication(s, tagEncAPRepPart, &seq) ||
		!der.ReadField(&seq, 0, der.ReadTime, &p.CTime) ||
		!der.ReadField(&seq, 1, der.ReadInt32, &p.CUSec) ||
		!der.ReadOptional(&seq, 2, readKey, &p.Subkey) {
		return false
	}
	p.HasSeqNumber = der.Next(&seq, der.Context(3))
	return der.ReadOptional(&seq, 3, der.ReadUint32, &p.SeqNumber) && der.SkipUnknown(&seq, 3)
}
