package messages

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// KRBPriv carries a message that only its two parties can read. A change of a password is one (RFC
// 3244).
//
//	KRB-PRIV        ::= [APPLICATION 21] SEQUENCE {
//	        pvno            [0] INTEGER (5),
//	        msg-type        [1] INTEGER (21),
//	                        -- NOTE: there is no [2] tag
//	        enc-part        [3] EncryptedData -- EncKrbPrivPart
//	}
//
// (RFC 4120, Section 5.7.1)
type KRBPriv struct {
	EncPart EncryptedData
}

func ParseKRBPriv(b []byte) (*KRBPriv, error) { return parse(b, "KRB-PRIV", codeKRBPriv) }
func (p *KRBPriv) Marshal() []byte            { return der.AppendCoded(nil, codeKRBPriv, p) }

func codeKRBPriv(c *der.Codec, p *KRBPriv) {
	c.Application(uint8(KRB_PRIV), func() {
		c.Const(0, PVNO)
		c.Const(1, int32(KRB_PRIV))
		der.Field(c, 3, codeEncryptedData, &p.EncPart)
	})
}

// EncKrbPrivPart is the inside of a KRBPriv.
//
//	EncKrbPrivPart  ::= [APPLICATION 28] SEQUENCE {
//	        user-data       [0] OCTET STRING,
//	        timestamp       [1] KerberosTime OPTIONAL,
//	        usec            [2] Microseconds OPTIONAL,
//	        seq-number      [3] UInt32 OPTIONAL,
//	        s-address       [4] HostAddress -- sender's addr --,
//	        r-address       [5] HostAddress OPTIONAL -- recip's addr
//	}
//
// (RFC 4120, Section 5.7.1)
type EncKrbPrivPart struct {
	UserData     []byte
	Timestamp    time.Time
	USec         int32  // microseconds; written when it or Timestamp is not zero
	SeqNumber    uint32 // of no meaning unless HasSeqNumber
	HasSeqNumber bool
	SAddress     *HostAddress // must be set in what is written; read without, too
	RAddress     *HostAddress
}

const tagEncKrbPrivPart = 28

func ParseEncKrbPrivPart(b []byte) (*EncKrbPrivPart, error) {
	return parsePadded(b, "EncKrbPrivPart", codeEncKrbPrivPart)
}

func (p *EncKrbPrivPart) Marshal() []byte { return der.AppendCoded(nil, codeEncKrbPrivPart, p) }

func codeEncKrbPrivPart(c *der.Codec, p *EncKrbPrivPart) {
	c.Application(tagEncKrbPrivPart, func() {
		der.Field(c, 0, der.Octets, &p.UserData)
		der.Optional(c, 1, !p.Timestamp.IsZero(), der.Time, &p.Timestamp)
		der.Optional(c, 2, p.USec != 0 || !p.Timestamp.IsZero(), der.Int32, &p.USec)
		der.OptionalHas(c, 3, &p.HasSeqNumber, der.Uint32, &p.SeqNumber)
		der.Optional(c, 4, p.SAddress != nil, der.Pointer(codeHostAddress), &p.SAddress)
		der.Optional(c, 5, p.RAddress != nil, der.Pointer(codeHostAddress), &p.RAddress)
	})
}
