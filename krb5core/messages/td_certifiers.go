package messages

import "github.com/caddy-negotiate/caddy-negotiate/internal/der"

// TDCertifiers is the value of TD_TRUSTED_CERTIFIERS, the CAs that the KDC trusts, and of
// TD_INVALID_CERTIFICATES, the certificates that it does not accept.
//
//	TD-TRUSTED-CERTIFIERS ::= SEQUENCE OF
//	                        ExternalPrincipalIdentifier
//	TD-INVALID-CERTIFICATES ::= SEQUENCE OF
//	                        ExternalPrincipalIdentifier
//
// (RFC 4556, Section 3.2.2)
type TDCertifiers []ExternalPrincipalIdentifier

func ParseTDCertifiers(b []byte) (TDCertifiers, error) {
	return parseValue(b, "TD-TRUSTED-CERTIFIERS", codeTDCertifiers)
}

func (t TDCertifiers) Marshal() []byte { return der.AppendCoded(nil, codeTDCertifiers, &t) }

func codeTDCertifiers(c *der.Codec, t *TDCertifiers) {
	der.List(c, codeExternalPrincipalIdentifier, t)
}
