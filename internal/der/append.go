package der

import (
	"math/bits"
	"time"
)

// Append appends an element with tag t whose content is what the function appends. The length is
// minimal and definite.
func Append(dst []byte, t Tag, content func(dst []byte) []byte) []byte {
	dst = append(dst, byte(t), 0)
	start := len(dst)
	return setLength(content(dst), start)
}

// setLength sets the length of the element that ends dst, whose content begins at start, after one
// byte kept for the length.
func setLength(dst []byte, start int) []byte {
	n := len(dst) - start
	if n < 0x80 {
		dst[start-1] = byte(n)
		return dst
	}
	// The one byte kept for the length does not suffice: make space for the long form.
	extra := lengthBytes(n)
	for range extra {
		dst = append(dst, 0)
	}
	copy(dst[start+extra:], dst[start:start+n])
	putLength(dst[start-1:start+extra], n)
	return dst
}

// AppendBytes appends an element with tag t and the given content.
func AppendBytes(dst []byte, t Tag, content []byte) []byte {
	return append(AppendHeader(dst, t, len(content)), content...)
}

// AppendHeader appends the tag and length of an element whose n bytes of content the caller appends
// next.
func AppendHeader(dst []byte, t Tag, n int) []byte {
	dst = append(dst, byte(t))
	if n < 0x80 {
		return append(dst, byte(n))
	}
	start := len(dst)
	for range 1 + lengthBytes(n) {
		dst = append(dst, 0)
	}
	putLength(dst[start:], n)
	return dst
}

// HeaderLen is the number of bytes that AppendHeader appends for n bytes of content.
func HeaderLen(n int) int {
	if n < 0x80 {
		return 2
	}
	return 2 + lengthBytes(n)
}

// lengthBytes counts the bytes after the first in the long form of length n.
func lengthBytes(n int) int { return (bits.Len(uint(n)) + 7) / 8 }

// putLength writes the long form of n over the whole of b.
func putLength(b []byte, n int) {
	b[0] = 0x80 | byte(len(b)-1)
	for i := len(b) - 1; i > 0; i-- {
		b[i] = byte(n)
		n >>= 8
	}
}

// AppendField appends v under the explicit context tag [n].
func AppendField[T any](dst []byte, n uint8, appendValue func([]byte, T) []byte, v T) []byte {
	return Append(dst, Context(n), func(dst []byte) []byte { return appendValue(dst, v) })
}

// AppendInt appends an INTEGER in its minimal two's complement form. An unsigned v is never written
// as a negative number.
func AppendInt[T ~int | ~int32 | ~int64 | ~uint32](dst []byte, v T) []byte {
	return appendInt(dst, TagInteger, int64(v))
}

// AppendEnum appends an ENUMERATED.
func AppendEnum[T ~int | ~int32](dst []byte, v T) []byte { return appendInt(dst, TagEnum, int64(v)) }

func appendInt(dst []byte, t Tag, v int64) []byte {
	n := 1
	for x := v; x > 127 || x < -128; x >>= 8 {
		n++
	}
	dst = append(dst, byte(t), byte(n))
	for n--; n >= 0; n-- {
		dst = append(dst, byte(v>>(8*n)))
	}
	return dst
}

// AppendOctetString appends an OCTET STRING.
func AppendOctetString(dst, v []byte) []byte { return AppendBytes(dst, TagOctetString, v) }

// AppendGeneralString appends a GeneralString with the bytes of v as they are: deployed peers put
// UTF-8 there (RFC 4120, Section 5.2.1 knows of it).
func AppendGeneralString(dst []byte, v string) []byte {
	return append(AppendHeader(dst, TagGeneralString, len(v)), v...)
}

// AppendTime appends a KerberosTime: a GeneralizedTime in UTC, whole seconds, ending in Z (RFC
// 4120, Section 5.2.3). Fractions are cut off; years that four digits cannot hold become the
// nearest that they can.
func AppendTime(dst []byte, v time.Time) []byte {
	v = v.UTC()
	switch y := v.Year(); {
	case y < 0:
		v = time.Date(0, time.January, 1, 0, 0, 0, 0, time.UTC)
	case y > 9999:
		v = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)
	}
	dst = append(dst, byte(TagGeneralizedTime), timeLen)
	return v.AppendFormat(dst, "20060102150405Z")
}

// AppendFlags appends KerberosFlags: a BIT STRING of 32 bits, the flag numbered 0 being the highest
// bit (RFC 4120, Section 5.2.8).
func AppendFlags[T ~uint32](dst []byte, v T) []byte {
	return append(dst, byte(TagBitString), 5, 0, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// AppendOID appends an OBJECT IDENTIFIER, given the bytes of its content.
func AppendOID(dst, content []byte) []byte { return AppendBytes(dst, TagOID, content) }
