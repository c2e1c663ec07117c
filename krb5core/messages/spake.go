package messages

import "github.com/caddy-negotiate/caddy-negotiate/internal/der"

// SPAKEGroup is a group that a SPAKE exchange computes in.
type SPAKEGroup int32

// The groups of RFC 9588, Section 12.2.
const (
	SPAKE_GROUP_EDWARDS25519 SPAKEGroup = 1
	SPAKE_GROUP_P256         SPAKEGroup = 2
	SPAKE_GROUP_P384         SPAKEGroup = 3
	SPAKE_GROUP_P521         SPAKEGroup = 4
)

// SPAKE_SF_NONE is the second factor type for no second factor (RFC 9588, Section 12.1).
const SPAKE_SF_NONE = 1

// PASPAKE is one message of a SPAKE exchange. One of its fields is set.
//
//	PA-SPAKE ::= CHOICE {
//	        support         [0] SPAKESupport,
//	        challenge       [1] SPAKEChallenge,
//	        response        [2] SPAKEResponse,
//	        encdata         [3] EncryptedData,
//	        ...
//	}
//
// (RFC 9588, Section 4)
type PASPAKE struct {
	Support   *SPAKESupport
	Challenge *SPAKEChallenge
	Response  *SPAKEResponse
	EncData   *EncryptedData
}

func ParsePASPAKE(b []byte) (*PASPAKE, error) { return parse(b, "PA-SPAKE", codePASPAKE) }
func (p *PASPAKE) Marshal() []byte            { return der.AppendCoded(nil, codePASPAKE, p) }

func codePASPAKE(c *der.Codec, p *PASPAKE) {
	c.Require(der.Optional(c, 0, p.Support != nil, der.Pointer(codeSPAKESupport), &p.Support) ||
		der.Optional(c, 1, p.Challenge != nil, der.Pointer(codeSPAKEChallenge), &p.Challenge) ||
		der.Optional(c, 2, p.Response != nil, der.Pointer(codeSPAKEResponse), &p.Response) ||
		der.Optional(c, 3, p.EncData != nil, der.Pointer(codeEncryptedData), &p.EncData))
}

// SPAKESupport is the client's offer of groups.
//
//	SPAKESupport ::= SEQUENCE {
//	        groups          [0] SEQUENCE (SIZE(1..MAX)) OF Int32,
//	        ...
//	}
//
// (RFC 9588, Section 4.1)
type SPAKESupport struct {
	Groups []SPAKEGroup // in the order of preference
}

func codeSPAKESupport(c *der.Codec, p *SPAKESupport) {
	c.Sequence(func() {
		der.Field(c, 0, der.ListOf(der.Int32[SPAKEGroup]), &p.Groups)
		c.Require(len(p.Groups) > 0)
	})
}

// SPAKEChallenge is the KDC's public value and its offer of second factors.
//
//	SPAKEChallenge ::= SEQUENCE {
//	        group           [0] Int32,
//	        pubkey          [1] OCTET STRING,
//	        factors         [2] SEQUENCE (SIZE(1..MAX)) OF SPAKESecondFactor,
//	        ...
//	}
//
// (RFC 9588, Section 4.2)
type SPAKEChallenge struct {
	Group   SPAKEGroup
	Pubkey  []byte
	Factors []SPAKESecondFactor
}

func codeSPAKEChallenge(c *der.Codec, ch *SPAKEChallenge) {
	c.Sequence(func() {
		der.Field(c, 0, der.Int32, &ch.Group)
		der.Field(c, 1, der.Octets, &ch.Pubkey)
		der.Field(c, 2, der.ListOf(codeSPAKESecondFactor), &ch.Factors)
		c.Require(len(ch.Factors) > 0)
	})
}

// SPAKESecondFactor is a second factor: offered in a challenge, or chosen and encrypted in a
// response.
//
//	SPAKESecondFactor ::= SEQUENCE {
//	        type            [0] Int32,
//	        data            [1] OCTET STRING OPTIONAL
//	}
//
// (RFC 9588, Section 4.2)
type SPAKESecondFactor struct {
	Type int32
	Data []byte
}

func ParseSPAKESecondFactor(b []byte) (*SPAKESecondFactor, error) {
	return parsePadded(b, "SPAKESecondFactor", codeSPAKESecondFactor)
}

func (f SPAKESecondFactor) Marshal() []byte { return der.AppendCoded(nil, codeSPAKESecondFactor, &f) }

func codeSPAKESecondFactor(c *der.Codec, f *SPAKESecondFactor) {
	c.Sequence(func() {
		der.Field(c, 0, der.Int32, &f.Type)
		der.Optional(c, 1, f.Data != nil, der.Octets, &f.Data)
	})
}

// SPAKEResponse is the client's public value and its second factor.
//
//	SPAKEResponse ::= SEQUENCE {
//	        pubkey          [0] OCTET STRING,
//	        factor          [1] EncryptedData, -- SPAKESecondFactor --
//	        ...
//	}
//
// (RFC 9588, Section 4.3)
type SPAKEResponse struct {
	Pubkey []byte
	Factor EncryptedData // under K'[1], usage 65
}

func codeSPAKEResponse(c *der.Codec, r *SPAKEResponse) {
	c.Sequence(func() {
		der.Field(c, 0, der.Octets, &r.Pubkey)
		der.Field(c, 1, codeEncryptedData, &r.Factor)
	})
}
