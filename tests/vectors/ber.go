package vectors

import (
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// LongLengths returns a DER encoding with the length of each element, those of constructed elements
// included, in four bytes, as BER permits.
func LongLengths(encoding []byte) []byte {
	var long []byte
	for s := cryptobyte.String(encoding); !s.Empty(); {
		var content cryptobyte.String
		var t asn1.Tag
		if !s.ReadAnyASN1(&content, &t) {
			return append(long, s...)
		}
		inner := []byte(content)
		if t&0x20 != 0 {
			inner = LongLengths(inner)
		}
		n := len(inner)
		long = append(long, byte(t), 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		long = append(long, inner...)
	}
	return long
}
