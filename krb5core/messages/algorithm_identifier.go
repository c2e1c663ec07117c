package messages

import "github.com/caddy-negotiate/caddy-negotiate/internal/der"

// AlgorithmIdentifier names an algorithm with its parameters.
//
//	AlgorithmIdentifier ::= SEQUENCE {
//	        algorithm               OBJECT IDENTIFIER,
//	        parameters              ANY DEFINED BY algorithm OPTIONAL
//	}
//
// (RFC 5280, Section 4.1.1.2)
type AlgorithmIdentifier struct {
	Algorithm  []byte // the content of the OBJECT IDENTIFIER
	Parameters []byte // one DER element, nil if absent
}

// CodeAlgorithmIdentifier reads or writes an AlgorithmIdentifier within another structure.
func CodeAlgorithmIdentifier(c *der.Codec, a *AlgorithmIdentifier) {
	c.Element(der.TagSequence, func() {
		der.OID(c, &a.Algorithm)
		der.OptionalAny(c, &a.Parameters)
	})
}

// SubjectPublicKeyInfo is a public key.
//
//	SubjectPublicKeyInfo ::= SEQUENCE {
//	        algorithm               AlgorithmIdentifier,
//	        subjectPublicKey        BIT STRING
//	}
//
// (RFC 5280, Section 4.1.2.7)
type SubjectPublicKeyInfo struct {
	Algorithm        AlgorithmIdentifier
	SubjectPublicKey []byte
}

func codeSubjectPublicKeyInfo(c *der.Codec, k *SubjectPublicKeyInfo) {
	c.Element(der.TagSequence, func() {
		CodeAlgorithmIdentifier(c, &k.Algorithm)
		der.BitString(c, &k.SubjectPublicKey)
	})
}
