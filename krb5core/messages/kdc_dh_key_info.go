package messages

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// KDCDHKeyInfo is the KDC's Diffie-Hellman value, which it signs.
//
//	KDCDHKeyInfo ::= SEQUENCE {
//	        subjectPublicKey        [0] BIT STRING,
//	        nonce                   [1] INTEGER (0..4294967295),
//	        dhKeyExpiration         [2] KerberosTime OPTIONAL,
//	        ...
//	}
//
// (RFC 4556, Section 3.2.3.1)
type KDCDHKeyInfo struct {
	SubjectPublicKey []byte // DER of an INTEGER, or a point of a curve (RFC 5349, Section 4)
	Nonce            uint32 // of the PKAuthenticator, 0 if the KDC uses its key again
	DHKeyExpiration  time.Time
}

func ParseKDCDHKeyInfo(b []byte) (*KDCDHKeyInfo, error) {
	return parse(b, "KDCDHKeyInfo", codeKDCDHKeyInfo)
}
func (k *KDCDHKeyInfo) Marshal() []byte { return der.AppendCoded(nil, codeKDCDHKeyInfo, k) }

func codeKDCDHKeyInfo(c *der.Codec, k *KDCDHKeyInfo) {
	c.Sequence(func() {
		der.Field(c, 0, der.BitString, &k.SubjectPublicKey)
		der.Field(c, 1, der.Uint32, &k.Nonce)
		der.Optional(c, 2, !k.DHKeyExpiration.IsZero(), der.Time, &k.DHKeyExpiration)
	})
}
