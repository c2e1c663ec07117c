package messages

import (
	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// EncryptionKey is enctype.Key here. A key whose type is not implemented is read and written like
// any other.
//
//	EncryptionKey ::= SEQUENCE {
//	        keytype         [0] Int32 -- actually encryption type --,
//	        keyvalue        [1] OCTET STRING
//	}
//
// (RFC 4120, Section 5.2.9)

// ParseEncryptionKey reads a decrypted EncryptionKey, such as that of PA_PKINIT_KX.
func ParseEncryptionKey(b []byte) (enctype.Key, error) {
	key, err := parsePadded(b, "EncryptionKey", codeKey)
	if err != nil {
		return enctype.Key{}, err
	}
	return *key, nil
}

// MarshalEncryptionKey writes what ParseEncryptionKey reads.
func MarshalEncryptionKey(key enctype.Key) []byte { return der.AppendCoded(nil, codeKey, &key) }

func codeKey(c *der.Codec, k *enctype.Key) {
	id, raw := k.EType(), k.Bytes()
	codeTyped(c, 0, &id, &raw)
	if c.Reading() {
		key, err := enctype.NewKey(id, raw)
		*k = key
		c.Require(err == nil)
	}
}
