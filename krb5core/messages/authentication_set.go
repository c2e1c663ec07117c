package messages

import (
	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// AuthenticationSet lists mechanisms that a KDC wants used together, the value of PA_AUTHENTICATION_SET; with one element, that
// of PA_AUTH_SET_SELECTED.
//
//	PA-AUTHENTICATION-SET ::= SEQUENCE OF PA-AUTHENTICATION-SET-ELEM
//
// (RFC 6113 5.3)
type AuthenticationSet []AuthenticationSetElem

// AuthenticationSetElem is one mechanism of an AuthenticationSet.
//
//	PA-AUTHENTICATION-SET-ELEM ::= SEQUENCE {
//	        pa-type         [0] Int32, -- same as padata-type
//	        pa-hint         [1] OCTET STRING OPTIONAL,
//	        pa-value        [2] OCTET STRING OPTIONAL,
//	        ...
//	}
//
// (RFC 6113 5.3)
type AuthenticationSetElem struct {
	PAType  PADataType
	PAHint  []byte
	PAValue []byte
}

// ParseAuthenticationSet reads a PA-AUTHENTICATION-SET.
func ParseAuthenticationSet(b []byte) (AuthenticationSet, error) {
	a, err := parse(b, "PA-AUTHENTICATION-SET", readAuthenticationSet)
	if err != nil {
		return nil, err
	}
	return *a, nil
}

// Append appends the DER encoding.
func (a AuthenticationSet) Append(dst []byte) []byte {
	return der.AppendSequenceOf(der.AppendValue[AuthenticationSetElem])(dst, a)
}

// Marshal returns the DER encoding.
func (a AuthenticationSet) Marshal() []byte { return a.Append(nil) }

// Append appends the DER encoding.
func (e AuthenticationSetElem) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, e.PAType)
		if e.PAHint != nil {
			dst = der.AppendField(dst, 1, der.AppendOctetString, e.PAHint)
		}
		if e.PAValue != nil {
			dst = der.AppendField(dst, 2, der.AppendOctetString, e.PAValue)
		}
		return dst
	})
}

func readAuthenticationSet(s *der.String, a *AuthenticationSet) bool {
	return der.ReadSequenceOf(readAuthenticationSetElem)(s, (*[]AuthenticationSetElem)(a))
}

func readAuthenticationSetElem(s *der.String, e *AuthenticationSetElem) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadInt32, &e.PAType) &&
		der.ReadOptional(&seq, 1, der.ReadOctets, &e.PAHint) &&
		der.ReadOptional(&seq, 2, der.ReadOctets, &e.PAValue) &&
		der.SkipUnknown(&seq, 2)
}
