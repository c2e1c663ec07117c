package messages

import (
	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// EncryptionKey is enctype.Key here. A key whose type is not implemented is read and written like any other.
//
//	EncryptionKey ::= SEQUENCE {
//	        keytype         [0] Int32 -- actually encryption type --,
//	        keyvalue        [1] OCTET STRING
//	}
//
// (RFC 4120 5.2.9)

func appendKey(dst []byte, k enctype.Key) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		if k.IsZero() {
			dst = der.AppendField(dst, 0, der.AppendInt, enctype.ID(0))
			return der.AppendField(dst, 1, der.AppendOctetString, nil)
		}
		dst = der.AppendField(dst, 0, der.AppendInt, k.EType())
		return der.AppendField(dst, 1, der.AppendOctetString, k.Bytes())
	})
}

func readKey(s *der.String, k *enctype.Key) bool {
	var seq der.String
	var id enctype.ID
	var octets []byte
	if !der.ReadSequence(s, &seq) ||
		!der.ReadField(&seq, 0, der.ReadInt32, &id) ||
		!der.ReadField(&seq, 1, der.ReadOctets, &octets) ||
		!der.SkipUnknown(&seq, 1) {
		return false
	}
	key, err := enctype.NewKey(id, octets)
	*k = key
	return err == nil
}

// appendOptionalKey writes a key under [n] unless there is none.
func appendOptionalKey(dst []byte, n uint8, k enctype.Key) []byte {
	if k.IsZero() {
		return dst
	}
	return der.AppendField(dst, n, appendKey, k)
}
