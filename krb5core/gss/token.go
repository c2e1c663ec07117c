package gss

import (
	"errors"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// TokenID is the kind of message in a context token (RFC 4121, Section 4.1).
type TokenID uint16

// The context tokens of RFC 4121, Section 4.1.
const (
	TOK_AP_REQ    TokenID = 0x0100
	TOK_AP_REP    TokenID = 0x0200
	TOK_KRB_ERROR TokenID = 0x0300
)

// Mechanisms, as the content of their object identifiers.
const (
	mechKRB5   = "\x2a\x86\x48\x86\xf7\x12\x01\x02\x02" // 1.2.840.113554.1.2.2 (RFC 4121, Section 1)
	mechMSKRB5 = "\x2a\x86\x48\x82\xf7\x12\x01\x02\x02" // 1.2.840.48018.1.2.2: the same, misspelt ([MS-SPNG] 3.1.5.2)
)

// ErrOtherMechanism is wrapped by the error for a token of another mechanism.
var ErrOtherMechanism = errors.New("GSS token of another mechanism than Kerberos")

// Token is a context token without its frame.
type Token struct {
	ID   TokenID
	Body []byte // the message: AP-REQ, AP-REP or KRB-ERROR
}

// AppendToken appends a context token (RFC 2743, Section 3.1, RFC 4121, Section 4.1):
//
//	InitialContextToken ::= [APPLICATION 0] IMPLICIT SEQUENCE {
//	        thisMech MechType,
//	        innerContextToken ANY DEFINED BY thisMech -- token ID, then the message
//	}
func AppendToken(dst []byte, id TokenID, body []byte) []byte {
	dst = der.AppendHeader(dst, der.Application(0), der.HeaderLen(len(mechKRB5))+len(mechKRB5)+2+len(body))
	dst = der.AppendOID(dst, []byte(mechKRB5))
	return append(append(dst, byte(id>>8), byte(id)), body...)
}

// ParseToken reads a context token: with its frame, under either name of the mechanism, or a
// message without a frame, as acceptors of DCE style and some others send it. Lengths may have more
// bytes than needed. The result aliases b.
// Of the message only the tag is checked.
func ParseToken(b []byte) (Token, error) {
	switch messages.TypeOf(b) {
	case messages.KRB_AP_REQ:
		return Token{TOK_AP_REQ, b}, nil
	case messages.KRB_AP_REP:
		return Token{TOK_AP_REP, b}, nil
	case messages.KRB_ERROR:
		return Token{TOK_KRB_ERROR, b}, nil
	default: // a frame, or another kind of message
	}
	s := der.String(b)
	var frame, mech der.String
	var id uint16
	if !der.ReadBER(&s, &frame, der.Application(0)) || !s.Empty() || !der.ReadBER(&frame, &mech, der.TagOID) {
		return Token{}, errors.New("malformed GSS token: neither framed nor a Kerberos message")
	}
	if string(mech) != mechKRB5 && string(mech) != mechMSKRB5 {
		return Token{}, fmt.Errorf("%w (object identifier %x)", ErrOtherMechanism, mech)
	}
	if !frame.ReadUint16(&id) {
		return Token{}, errors.New("malformed GSS token: no token ID")
	}
	t := Token{TokenID(id), frame}
	want := messages.MsgType(0)
	switch t.ID {
	case TOK_AP_REQ:
		want = messages.KRB_AP_REQ
	case TOK_AP_REP:
		want = messages.KRB_AP_REP
	case TOK_KRB_ERROR:
		want = messages.KRB_ERROR
	}
	if want == 0 || messages.TypeOf(frame) != want {
		return Token{}, fmt.Errorf("malformed GSS token: token ID %04x before another message", id)
	}
	return t, nil
}
