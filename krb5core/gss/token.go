package gss

import (
	"errors"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// TokenID says what a context token holds (RFC 4121 4.1).
type TokenID uint16

// The context tokens of RFC 4121 4.1.
const (
	TOK_AP_REQ    TokenID = 0x0100
	TOK_AP_REP    TokenID = 0x0200
	TOK_KRB_ERROR TokenID = 0x0300
)

// Mechanisms, as the content octets of their object identifiers.
const (
	mechKRB5   = "\x2a\x86\x48\x86\xf7\x12\x01\x02\x02" // 1.2.840.113554.1.2.2 (RFC 4121 1)
	mechMSKRB5 = "\x2a\x86\x48\x82\xf7\x12\x01\x02\x02" // 1.2.840.48018.1.2.2: the same, misspelt ([MS-SPNG] 3.1.5.2)
)

// Token is a context token without its frame.
type Token struct {
	ID   TokenID
	Body []byte // the message: AP-REQ, AP-REP or KRB-ERROR
}

// AppendToken appends a context token (RFC 2743 3.1, RFC 4121 4.1):
//
//	InitialContextToken ::= [APPLICATION 0] IMPLICIT SEQUENCE {
//	        thisMech MechType,
//	        innerContextToken ANY DEFINED BY thisMech -- token ID, then the message
//	}
func AppendToken(dst []byte, id TokenID, body []byte) []byte {
	return append(appendTokenHeader(dst, id, len(body)), body...)
}

// appendTokenHeader is AppendToken for a message of n octets that the caller appends.
func appendTokenHeader(dst []byte, id TokenID, n int) []byte {
	dst = der.AppendHeader(dst, der.Application(0), der.HeaderLen(len(mechKRB5))+len(mechKRB5)+2+n)
	dst = der.AppendOID(dst, []byte(mechKRB5))
	return append(dst, byte(id>>8), byte(id))
}

// ParseToken reads a context token: with its frame, under either name of the mechanism, or a bare message as acceptors
// of DCE style and some careless ones send it. What it returns aliases b. Of the message only the tag is looked at.
func ParseToken(b []byte) (Token, error) {
	switch messages.TypeOf(b) {
	case messages.KRB_AP_REQ:
		return Token{TOK_AP_REQ, b}, nil
	case messages.KRB_AP_REP:
		return Token{TOK_AP_REP, b}, nil
	case messages.KRB_ERROR:
		return Token{TOK_KRB_ERROR, b}, nil
	default: // a frame, or nothing of ours
	}
	s := der.String(b)
	var frame der.String
	var mech []byte
	var id uint16
	if !der.ReadElement(&s, der.Application(0), &frame) || !s.Empty() || !der.ReadOID(&frame, &mech) {
		return Token{}, errors.New("malformed GSS token: neither framed nor a Kerberos message")
	}
	if string(mech) != mechKRB5 && string(mech) != mechMSKRB5 {
		return Token{}, fmt.Errorf("GSS token of another mechanism than Kerberos (object identifier %x)", mech)
	}
	if !frame.ReadUint16(&id) {
		return Token{}, errors.New("malformed GSS token: no token ID")
	}
	t := Token{TokenID(id), frame}
	want := map[TokenID]messages.MsgType{
		TOK_AP_REQ: messages.KRB_AP_REQ, TOK_AP_REP: messages.KRB_AP_REP, TOK_KRB_ERROR: messages.KRB_ERROR,
	}[t.ID]
	if want == 0 || messages.TypeOf(frame) != want {
		return Token{}, fmt.Errorf("malformed GSS token: token ID %04x before another message", id)
	}
	return t, nil
}
