package spnego

import (
	"errors"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

var errResp = errors.New("malformed SPNEGO NegTokenResp: the acceptor does not speak RFC 4178 here")

// NegState is how far the acceptor thinks the negotiation has come.
//
//	negState ENUMERATED {
//	    accept-completed  (0),
//	    accept-incomplete (1),
//	    reject            (2),
//	    request-mic       (3)
//	}
type NegState int32

// The states of RFC 4178, Section 4.2.2; NoState is a NegTokenResp without one, as later tokens may
// be.
const (
	NoState          NegState = -1
	AcceptCompleted  NegState = 0
	AcceptIncomplete NegState = 1
	Reject           NegState = 2
	RequestMIC       NegState = 3
)

// NegTokenResp is the acceptor's answer.
//
//	NegTokenResp ::= SEQUENCE {
//	    negState        [0] ENUMERATED   OPTIONAL,
//	    supportedMech   [1] MechType     OPTIONAL,
//	    responseToken   [2] OCTET STRING OPTIONAL,
//	    mechListMIC     [3] OCTET STRING OPTIONAL,
//	    ...
//	}
//
// (RFC 4178, Section 4.2.2.) The zero value says accept-completed; set State to NoState for none.
type NegTokenResp struct {
	State NegState
	// SupportedMech is the mechanism chosen; empty if none is named. Windows names Kerberos by
	// either OID.
	SupportedMech OID
	// ResponseToken is the mechanism's token (of Kerberos: an AP-REP or a KRB-ERROR); nil if there
	// is none, as when mutual authentication was not asked for.
	ResponseToken []byte
	// MechListMIC is nil if there is none.
	MechListMIC []byte
}

// Append appends the token. It has no GSS-API header, being a second token (RFC 4178, Section 4.2).
func (t *NegTokenResp) Append(dst []byte) []byte { return der.AppendCoded(dst, codeResp, t) }

// ParseResp reads a NegTokenResp. What it returns may alias b.
func ParseResp(b []byte) (*NegTokenResp, error) {
	s := der.String(b)
	t := &NegTokenResp{State: NoState}
	if !der.ReadCodedBER(&s, codeResp, t) || !s.Empty() {
		return nil, errResp
	}
	return t, nil
}

func codeResp(c *der.Codec, t *NegTokenResp) {
	c.Element(der.Context(1), func() {
		c.Sequence(func() {
			der.Optional(c, 0, t.State != NoState, der.Enum, &t.State)
			c.Require(t.State <= RequestMIC)
			der.Optional(c, 1, t.SupportedMech != "", codeOID, &t.SupportedMech)
			der.Optional(c, 2, t.ResponseToken != nil, der.Octets, &t.ResponseToken)
			der.Optional(c, 3, t.MechListMIC != nil, der.Octets, &t.MechListMIC)
		})
	})
}

// ParseReply reads what follows "Negotiate" in an acceptor's header: a NegTokenResp, or a Kerberos
// token without SPNEGO around it, which some acceptors send in its place and which becomes the
// ResponseToken of a NegTokenResp without a state. Whether that token is one of Kerberos is for its
// reader to find out. What it returns may alias b.
func ParseReply(b []byte) (*NegTokenResp, error) {
	const (
		framed   = 0x60 // APPLICATION 0: a token with a GSS-API header
		apRep    = 0x6f // APPLICATION 15
		krbError = 0x7e // APPLICATION 30
	)
	if len(b) == 0 {
		return nil, errResp
	}
	switch b[0] {
	case framed:
		if _, err := ParseInit(b); err == nil {
			return nil, errors.New("acceptor sent a SPNEGO NegTokenInit2: a hint of what it speaks, not an answer")
		}
		fallthrough
	case apRep, krbError:
		return &NegTokenResp{State: NoState, ResponseToken: b}, nil
	}
	return ParseResp(b)
}
