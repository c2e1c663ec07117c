package messages

import "github.com/caddy-negotiate/caddy-negotiate/internal/der"

// KRB5PrincipalName is a principal in a certificate's subjectAltName, as the otherName id-pkinit-san.
//
//	KRB5PrincipalName ::= SEQUENCE {
//	        realm                   [0] Realm,
//	        principalName           [1] PrincipalName
//	}
//
// (RFC 4556, Section 3.2.2)
type KRB5PrincipalName struct {
	Realm         string
	PrincipalName PrincipalName
}

func ParseKRB5PrincipalName(b []byte) (*KRB5PrincipalName, error) {
	return parse(b, "KRB5PrincipalName", codeKRB5PrincipalName)
}

func (k *KRB5PrincipalName) Marshal() []byte { return der.AppendCoded(nil, codeKRB5PrincipalName, k) }

func codeKRB5PrincipalName(c *der.Codec, k *KRB5PrincipalName) {
	c.Sequence(func() {
		der.Field(c, 0, der.GeneralString, &k.Realm)
		der.Field(c, 1, codePrincipalName, &k.PrincipalName)
	})
}
