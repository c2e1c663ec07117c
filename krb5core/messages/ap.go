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
// (RFC 4120, Section 5.5.1)
type APReq struct {
	APOptions     APOptions
	Ticket        Ticket
	Authenticator EncryptedData
}

func ParseAPReq(b []byte) (*APReq, error) { return parseBER(b, "AP-REQ", codeAPReq) }
func (r *APReq) Marshal() []byte          { return der.AppendCoded(nil, codeAPReq, r) }

func codeAPReq(c *der.Codec, r *APReq) {
	c.Application(uint8(KRB_AP_REQ), func() {
		c.Const(0, PVNO)
		c.Const(1, int32(KRB_AP_REQ))
		der.Field(c, 2, der.Flags, &r.APOptions)
		der.Field(c, 3, codeTicket, &r.Ticket)
		der.Field(c, 4, codeEncryptedData, &r.Authenticator)
	})
}

// apRepSize is what an AP-REP and its inside take at most with keys of 32 bytes: a service makes one
// for every token.
const apRepSize = 192

// APRep is the service's proof of itself, in answer to an APReq.
//
//	AP-REP          ::= [APPLICATION 15] SEQUENCE {
//	        pvno            [0] INTEGER (5),
//	        msg-type        [1] INTEGER (15),
//	        enc-part        [2] EncryptedData -- EncAPRepPart
//	}
//
// (RFC 4120, Section 5.5.2)
type APRep struct {
	EncPart EncryptedData
}

func ParseAPRep(b []byte) (*APRep, error) { return parseBER(b, "AP-REP", codeAPRep) }
func (r *APRep) Marshal() []byte          { return der.AppendCoded(make([]byte, 0, apRepSize), codeAPRep, r) }

func codeAPRep(c *der.Codec, r *APRep) {
	c.Application(uint8(KRB_AP_REP), func() {
		c.Const(0, PVNO)
		c.Const(1, int32(KRB_AP_REP))
		der.Field(c, 2, codeEncryptedData, &r.EncPart)
	})
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
// (RFC 4120, Section 5.5.2)
type EncAPRepPart struct {
	CTime        time.Time
	CUSec        int32 // microseconds, 0 to 999999
	Subkey       enctype.Key
	SeqNumber    uint32 // of no meaning unless HasSeqNumber
	HasSeqNumber bool
}

const tagEncAPRepPart = 27

func ParseEncAPRepPart(b []byte) (*EncAPRepPart, error) {
	return parsePadded(b, "EncAPRepPart", codeEncAPRepPart)
}

func (p *EncAPRepPart) Marshal() []byte {
	return der.AppendCoded(make([]byte, 0, apRepSize), codeEncAPRepPart, p)
}

func codeEncAPRepPart(c *der.Codec, p *EncAPRepPart) {
	c.Application(tagEncAPRepPart, func() {
		der.Field(c, 0, der.Time, &p.CTime)
		der.Field(c, 1, der.Int32, &p.CUSec)
		der.Optional(c, 2, !p.Subkey.IsZero(), codeKey, &p.Subkey)
		der.OptionalHas(c, 3, &p.HasSeqNumber, der.Uint32, &p.SeqNumber)
	})
}
