package messages

import (
	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// SPAKEGroup is a group that a SPAKE exchange computes in.
type SPAKEGroup int32

// The groups of RFC 9588 12.2.
const (
	SPAKE_GROUP_EDWARDS25519 SPAKEGroup = 1
	SPAKE_GROUP_P256         SPAKEGroup = 2
	SPAKE_GROUP_P384         SPAKEGroup = 3
	SPAKE_GROUP_P521         SPAKEGroup = 4
)

// SPAKE_SF_NONE is the second factor type for no second factor (RFC 9588 12.1).
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
// (RFC 9588 4)
type PASPAKE struct {
	Support   *SPAKESupport
	Challenge *SPAKEChallenge
	Response  *SPAKEResponse
	EncData   *EncryptedData
}

// ParsePASPAKE reads a PA-SPAKE.
func ParsePASPAKE(b []byte) (*PASPAKE, error) { return parse(b, "PA-SPAKE", readPASPAKE) }

// Append appends the DER encoding of the first field that is set.
func (p *PASPAKE) Append(dst []byte) []byte {
	switch {
	case p.Support != nil:
		return der.AppendField(dst, 0, der.AppendValue, p.Support)
	case p.Challenge != nil:
		return der.AppendField(dst, 1, der.AppendValue, p.Challenge)
	case p.Response != nil:
		return der.AppendField(dst, 2, der.AppendValue, p.Response)
	case p.EncData != nil:
		return der.AppendField(dst, 3, der.AppendValue, *p.EncData)
	}
	return dst
}

// Marshal returns the DER encoding.
func (p *PASPAKE) Marshal() []byte { return p.Append(nil) }

func readPASPAKE(s *der.String, p *PASPAKE) bool {
	switch {
	case der.Next(s, der.Context(0)):
		return der.ReadField(s, 0, der.ReadPointer(readSPAKESupport), &p.Support)
	case der.Next(s, der.Context(1)):
		return der.ReadField(s, 1, der.ReadPointer(readSPAKEChallenge), &p.Challenge)
	case der.Next(s, der.Context(2)):
		return der.ReadField(s, 2, der.ReadPointer(readSPAKEResponse), &p.Response)
	}
	return der.ReadField(s, 3, der.ReadPointer(readEncryptedData), &p.EncData)
}

// SPAKESupport is the client's offer of groups.
//
//	SPAKESupport ::= SEQUENCE {
//	        groups          [0] SEQUENCE (SIZE(1..MAX)) OF Int32,
//	        ...
//	}
//
// (RFC 9588 4.1)
type SPAKESupport struct {
	Groups []SPAKEGroup // in the order of preference
}

// Append appends the DER encoding.
func (p *SPAKESupport) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		return der.AppendField(dst, 0, der.AppendSequenceOf(der.AppendInt[SPAKEGroup]), p.Groups)
	})
}

func readSPAKESupport(s *der.String, p *SPAKESupport) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadSequenceOf(der.ReadInt32[SPAKEGroup]), &p.Groups) &&
		len(p.Groups) > 0 &&
		der.SkipUnknown(&seq, 0)
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
// (RFC 9588 4.2)
type SPAKEChallenge struct {
	Group   SPAKEGroup
	Pubkey  []byte
	Factors []SPAKESecondFactor
}

// Append appends the DER encoding.
func (c *SPAKEChallenge) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, c.Group)
		dst = der.AppendField(dst, 1, der.AppendOctetString, c.Pubkey)
		return der.AppendField(dst, 2, der.AppendSequenceOf(der.AppendValue[SPAKESecondFactor]), c.Factors)
	})
}

func readSPAKEChallenge(s *der.String, c *SPAKEChallenge) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadInt32, &c.Group) &&
		der.ReadField(&seq, 1, der.ReadOctets, &c.Pubkey) &&
		der.ReadField(&seq, 2, der.ReadSequenceOf(readSPAKESecondFactor), &c.Factors) &&
		len(c.Factors) > 0 &&
		der.SkipUnknown(&seq, 2)
}

// SPAKESecondFactor is a second factor: offered in a challenge, or chosen and encrypted in a response.
//
//	SPAKESecondFactor ::= SEQUENCE {
//	        type            [0] Int32,
//	        data            [1] OCTET STRING OPTIONAL
//	}
//
// (RFC 9588 4.2)
type SPAKESecondFactor struct {
	Type int32
	Data []byte
}

// ParseSPAKESecondFactor reads a SPAKESecondFactor from a decrypted plaintext, padding and all.
func ParseSPAKESecondFactor(b []byte) (*SPAKESecondFactor, error) {
	return parsePadded(b, "SPAKESecondFactor", readSPAKESecondFactor)
}

// Append appends the DER encoding.
func (f SPAKESecondFactor) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, f.Type)
		if f.Data != nil {
			dst = der.AppendField(dst, 1, der.AppendOctetString, f.Data)
		}
		return dst
	})
}

// Marshal returns the DER encoding.
func (f SPAKESecondFactor) Marshal() []byte { return f.Append(nil) }

func readSPAKESecondFactor(s *der.String, f *SPAKESecondFactor) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadInt32, &f.Type) &&
		der.ReadOptional(&seq, 1, der.ReadOctets, &f.Data) &&
		der.SkipUnknown(&seq, 1)
}

// SPAKEResponse is the client's public value and its second factor.
//
//	SPAKEResponse ::= SEQUENCE {
//	        pubkey          [0] OCTET STRING,
//	        factor          [1] EncryptedData, -- SPAKESecondFactor --
//	        ...
//	}
//
// (RFC 9588 4.3)
type SPAKEResponse struct {
	Pubkey []byte
	Factor EncryptedData // under K'[1], usage 65
}

// Append appends the DER encoding.
func (r *SPAKEResponse) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendOctetString, r.Pubkey)
		return der.AppendField(dst, 1, der.AppendValue, r.Factor)
	})
}

func readSPAKEResponse(s *der.String, r *SPAKEResponse) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadOctets, &r.Pubkey) &&
		der.ReadField(&seq, 1, readEncryptedData, &r.Factor) &&
		der.SkipUnknown(&seq, 1)
}
