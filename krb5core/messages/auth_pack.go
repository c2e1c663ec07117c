package messages

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// AuthPack is what a client signs to log in with a certificate.
//
//	AuthPack ::= SEQUENCE {
//	        pkAuthenticator         [0] PKAuthenticator,
//	        clientPublicValue       [1] SubjectPublicKeyInfo OPTIONAL,
//	        supportedCMSTypes       [2] SEQUENCE OF AlgorithmIdentifier OPTIONAL,
//	        clientDHNonce           [3] DHNonce OPTIONAL,
//	        ...,
//	        supportedKDFs           [4] SEQUENCE OF KDFAlgorithmId OPTIONAL,
//	        ...
//	}
//
// (RFC 8636, Section 5)
type AuthPack struct {
	PKAuthenticator   PKAuthenticator
	ClientPublicValue *SubjectPublicKeyInfo
	SupportedCMSTypes []AlgorithmIdentifier
	ClientDHNonce     []byte // only of a client that uses its Diffie-Hellman key again
	SupportedKDFs     []KDFAlgorithmID
}

func ParseAuthPack(b []byte) (*AuthPack, error) { return parse(b, "AuthPack", codeAuthPack) }
func (a *AuthPack) Marshal() []byte             { return der.AppendCoded(nil, codeAuthPack, a) }

func codeAuthPack(c *der.Codec, a *AuthPack) {
	c.Sequence(func() {
		der.Field(c, 0, codePKAuthenticator, &a.PKAuthenticator)
		der.Optional(c, 1, a.ClientPublicValue != nil, der.Pointer(codeSubjectPublicKeyInfo), &a.ClientPublicValue)
		der.Optional(c, 2, a.SupportedCMSTypes != nil, der.ListOf(CodeAlgorithmIdentifier), &a.SupportedCMSTypes)
		der.Optional(c, 3, a.ClientDHNonce != nil, der.Octets, &a.ClientDHNonce)
		der.Optional(c, 4, a.SupportedKDFs != nil, der.ListOf(codeKDFAlgorithmID), &a.SupportedKDFs)
	})
}

// PKAuthenticator ties an AuthPack to a request and a time.
//
//	PKAuthenticator ::= SEQUENCE {
//	        cusec                   [0] INTEGER (0..999999),
//	        ctime                   [1] KerberosTime,
//	        nonce                   [2] INTEGER (0..4294967295),
//	        paChecksum              [3] OCTET STRING OPTIONAL,
//	        ...,
//	        freshnessToken          [4] OCTET STRING OPTIONAL,
//	        paChecksum2             [5] PAChecksum2 OPTIONAL
//	}
//
// (RFC 4556, Section 3.2.1; RFC 8070, Section 4; [MS-PKCA], Section 2.2.3)
type PKAuthenticator struct {
	CUSec          int32
	CTime          time.Time
	Nonce          uint32
	PAChecksum     []byte // SHA-1 over the KDC-REQ-BODY
	FreshnessToken []byte // the KDC's
	PAChecksum2    *PAChecksum2
}

func codePKAuthenticator(c *der.Codec, a *PKAuthenticator) {
	c.Sequence(func() {
		der.Field(c, 0, der.Int32, &a.CUSec)
		der.Field(c, 1, der.Time, &a.CTime)
		der.Field(c, 2, der.Uint32, &a.Nonce)
		der.Optional(c, 3, a.PAChecksum != nil, der.Octets, &a.PAChecksum)
		der.Optional(c, 4, a.FreshnessToken != nil, der.Octets, &a.FreshnessToken)
		der.Optional(c, 5, a.PAChecksum2 != nil, der.Pointer(codePAChecksum2), &a.PAChecksum2)
	})
}

// PAChecksum2 is a digest of the KDC-REQ-BODY by another algorithm than SHA-1.
//
//	PAChecksum2 ::= SEQUENCE {
//	        checksum                [0] OCTET STRING,
//	        algorithmIdentifier     [1] AlgorithmIdentifier
//	}
//
// ([MS-PKCA], Section 2.2.3)
type PAChecksum2 struct {
	Checksum  []byte
	Algorithm AlgorithmIdentifier
}

func codePAChecksum2(c *der.Codec, p *PAChecksum2) {
	c.Sequence(func() {
		der.Field(c, 0, der.Octets, &p.Checksum)
		der.Field(c, 1, CodeAlgorithmIdentifier, &p.Algorithm)
	})
}

// KDFAlgorithmID is a key derivation function.
//
//	KDFAlgorithmId ::= SEQUENCE {
//	        kdf-id                  [0] OBJECT IDENTIFIER,
//	        ...
//	}
//
// (RFC 8636, Section 5)
type KDFAlgorithmID struct {
	KDFID []byte // the content of the OBJECT IDENTIFIER
}

func codeKDFAlgorithmID(c *der.Codec, k *KDFAlgorithmID) {
	c.Sequence(func() { der.Field(c, 0, der.OID, &k.KDFID) })
}
