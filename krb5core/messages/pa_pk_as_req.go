package messages

import "github.com/caddy-negotiate/caddy-negotiate/internal/der"

// PAPKASReq is a client's request of public-key pre-authentication (PKINIT).
//
//	PA-PK-AS-REQ ::= SEQUENCE {
//	        signedAuthPack          [0] IMPLICIT OCTET STRING,
//	        trustedCertifiers       [1] SEQUENCE OF
//	                                ExternalPrincipalIdentifier OPTIONAL,
//	        kdcPkId                 [2] IMPLICIT OCTET STRING OPTIONAL,
//	        ...
//	}
//
// (RFC 4556, Section 3.2.1)
type PAPKASReq struct {
	SignedAuthPack []byte // CMS SignedData of an AuthPack
	// TrustedCertifiers are the CAs that the client trusts.
	TrustedCertifiers []ExternalPrincipalIdentifier
	KDCPKID           []byte // issuer and serial number of a certificate of the KDC
}

// ParsePAPKASReq reads the value of PA_PK_AS_REQ in a request.
func ParsePAPKASReq(b []byte) (*PAPKASReq, error) { return parse(b, "PA-PK-AS-REQ", codePAPKASReq) }
func (p *PAPKASReq) Marshal() []byte              { return der.AppendCoded(nil, codePAPKASReq, p) }

func codePAPKASReq(c *der.Codec, p *PAPKASReq) {
	c.Sequence(func() {
		der.ImplicitOctets(c, 0, &p.SignedAuthPack)
		der.Optional(c, 1, p.TrustedCertifiers != nil, der.ListOf(codeExternalPrincipalIdentifier), &p.TrustedCertifiers)
		der.OptionalImplicitOctets(c, 2, &p.KDCPKID)
	})
}

// ExternalPrincipalIdentifier names a certificate or its holder, in whichever way the sender knows.
//
//	ExternalPrincipalIdentifier ::= SEQUENCE {
//	        subjectName             [0] IMPLICIT OCTET STRING OPTIONAL,
//	        issuerAndSerialNumber   [1] IMPLICIT OCTET STRING OPTIONAL,
//	        subjectKeyIdentifier    [2] IMPLICIT OCTET STRING OPTIONAL,
//	        ...
//	}
//
// (RFC 4556, Section 3.2.1)
type ExternalPrincipalIdentifier struct {
	SubjectName           []byte // DER of a Name (RFC 5280)
	IssuerAndSerialNumber []byte // DER of an IssuerAndSerialNumber (RFC 5652)
	SubjectKeyIdentifier  []byte
}

func codeExternalPrincipalIdentifier(c *der.Codec, e *ExternalPrincipalIdentifier) {
	c.Sequence(func() {
		der.OptionalImplicitOctets(c, 0, &e.SubjectName)
		der.OptionalImplicitOctets(c, 1, &e.IssuerAndSerialNumber)
		der.OptionalImplicitOctets(c, 2, &e.SubjectKeyIdentifier)
	})
}
