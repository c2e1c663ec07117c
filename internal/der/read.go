package der

import (
	"math"
	"time"
)

// ReadRaw takes the next element off s, whatever it is, and sets out to all of it, tag and length
// included.
func ReadRaw(s *String, out *[]byte) bool {
	var element String
	var t Tag
	if !s.ReadAnyASN1Element(&element, &t) {
		return false
	}
	*out = element
	return true
}

// ReadBER takes an element with tag t off s and sets out to its content. The length is definite but,
// as BER permits (ITU-T X.690, Section 8.1.3.5), may have more bytes than needed.
func ReadBER(s, out *String, t Tag) bool {
	var got Tag
	return s.PeekASN1Tag(t) && readAnyBER(s, out, &got)
}

func readAnyBER(s, out *String, t *Tag) bool {
	const multipleBytes = 0x1f // of a tag number above 30
	rest := *s
	var tag, length uint8
	if !rest.ReadUint8(&tag) || tag&multipleBytes == multipleBytes || !rest.ReadUint8(&length) {
		return false
	}
	n := int(length)
	if length >= 0x80 {
		var long []byte
		// 0x80 is an indefinite length, 0xff is reserved.
		if length == 0x80 || length == 0xff || !rest.ReadBytes(&long, n-0x80) {
			return false
		}
		n = 0
		for _, b := range long {
			if n = n<<8 | int(b); n > len(rest) {
				return false
			}
		}
	}
	var content []byte
	if !rest.ReadBytes(&content, n) {
		return false
	}
	*s, *out, *t = rest, content, Tag(tag)
	return true
}

// ReadField reads a field that must be there: a value under the explicit context tag [n], with
// nothing beside it.
func ReadField[T any](s *String, n uint8, read func(*String, *T) bool, out *T) bool {
	var inner String
	if !s.ReadASN1(&inner, Context(n)) {
		return false
	}
	// The value is read through s, for a String of our own would have to be allocated to be handed
	// to read.
	rest := *s
	*s = inner
	ok := read(s, out) && s.Empty()
	*s = rest
	return ok
}

// ReadOptional reads a field as ReadField does, or leaves out as it is when the next field is not
// [n].
func ReadOptional[T any](s *String, n uint8, read func(*String, *T) bool, out *T) bool {
	return !s.PeekASN1Tag(Context(n)) || ReadField(s, n, read, out)
}

// SkipUnknown ends a structure whose last known field is [last]. What is left must be fields with
// higher context tags, as later revisions append them; a known field in the wrong place is a
// mistake and not skipped.
func SkipUnknown(s *String, last uint8) bool {
	for !s.Empty() {
		var content String
		var t Tag
		if !s.ReadAnyASN1(&content, &t) {
			return false
		}
		if t&(classContext|classApplication) != classContext || uint8(t)&0x1f <= last {
			return false
		}
	}
	return true
}

// ReadInt32 reads an Int32. A value that some peer sent as its unsigned equal is taken for the
// negative one.
func ReadInt32[T ~int32](s *String, out *T) bool {
	v, ok := read32(s)
	*out = T(uint32(v))
	return ok
}

// ReadUint32 reads a UInt32. A value that some peer sign-extended (old versions of Active Directory
// do so to the kvno of a read-only domain controller, others to sequence numbers) is taken for the
// unsigned one.
func ReadUint32[T ~uint32](s *String, out *T) bool {
	v, ok := read32(s)
	*out = T(uint32(v))
	return ok
}

func read32(s *String) (int64, bool) {
	var v int64
	if !s.ReadASN1Integer(&v) || v < math.MinInt32 || v > math.MaxUint32 {
		return 0, false
	}
	return v, true
}

// ReadEnum reads an ENUMERATED that fits in 31 bits.
func ReadEnum[T ~int32](s *String, out *T) bool {
	var v int
	if !s.ReadASN1Enum(&v) || v < 0 || v > math.MaxInt32 {
		return false
	}
	*out = T(v)
	return true
}

// ReadOctets reads an OCTET STRING. The result aliases the input and is not nil.
func ReadOctets(s *String, out *[]byte) bool {
	var content String
	if !s.ReadASN1(&content, TagOctetString) {
		return false
	}
	*out = content
	return true
}

// ReadGeneralString reads a GeneralString, its bytes as they are.
func ReadGeneralString(s *String, out *string) bool {
	var content String
	if !s.ReadASN1(&content, TagGeneralString) {
		return false
	}
	*out = string(content)
	return true
}

// ReadOID reads an OBJECT IDENTIFIER and sets out to the bytes of its content, which alias the
// input.
func ReadOID(s *String, out *[]byte) bool {
	var content String
	if !s.ReadASN1(&content, TagOID) || content.Empty() {
		return false
	}
	*out = content
	return true
}

// ReadFlags reads KerberosFlags: a BIT STRING whose first 32 bits count. RFC 4120, Section 5.2.8
// asks for 32 and more; Windows sends 16 at times, and missing bits are zero.
func ReadFlags[T ~uint32](s *String, out *T) bool {
	var content String
	if !s.ReadASN1(&content, TagBitString) || len(content) == 0 {
		return false
	}
	unused := content[0]
	if unused > 7 || unused > 0 && len(content) == 1 {
		return false
	}
	var v uint32
	for i, b := range content[1:min(len(content), 5)] {
		v |= uint32(b) << (24 - 8*i)
	}
	if n := 8*(len(content)-1) - int(unused); n < 32 {
		v &^= math.MaxUint32 >> n
	}
	*out = T(v)
	return true
}

const timeLen = 15

// ReadTime reads a KerberosTime: a GeneralizedTime of whole seconds in UTC, exactly YYYYMMDDHHMMSSZ
// (RFC 4120, Section 5.2.3).
func ReadTime(s *String, out *time.Time) bool {
	var b String
	if !s.ReadASN1(&b, TagGeneralizedTime) || len(b) != timeLen || b[timeLen-1] != 'Z' {
		return false
	}
	for _, c := range b[:timeLen-1] {
		if c < '0' || c > '9' {
			return false
		}
	}
	two := func(i int) int { return int(b[i]-'0')*10 + int(b[i+1]-'0') }
	year, month, day := two(0)*100+two(2), time.Month(two(4)), two(6)
	hour, minute, second := two(8), two(10), two(12)
	t := time.Date(year, month, day, hour, minute, second, 0, time.UTC)
	// time.Date carries what is out of range over into the next field: the 31st of February is
	// none.
	if t.Month() != month || t.Day() != day || t.Hour() != hour || t.Minute() != minute || t.Second() != second {
		return false
	}
	*out = t
	return true
}
