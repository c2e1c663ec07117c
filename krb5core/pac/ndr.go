package pac

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

var errShort = errors.New("cut short")

// ndr reads values in the Network Data Representation of [MS-RPCE], little endian: aligned to their
// size, what a pointer points to after the structure. It keeps the first error, after which all
// that it returns is zero. What it allocates is bounded by the bytes that are left.
type ndr struct {
	b   []byte
	at  int
	err error
}

func (r *ndr) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// next returns n bytes from the next multiple of align.
func (r *ndr) next(n, align int) []byte {
	at := (r.at + align - 1) / align * align
	if r.err == nil && (at > len(r.b) || n > len(r.b)-at) {
		r.fail(errShort)
	}
	if r.err != nil {
		return make([]byte, min(n, 8))
	}
	r.at = at + n
	return r.b[at:r.at]
}

func (r *ndr) uint16() uint16 { return binary.LittleEndian.Uint16(r.next(2, 2)) }
func (r *ndr) uint32() uint32 { return binary.LittleEndian.Uint32(r.next(4, 4)) }

// skip passes n values of 32 bits.
func (r *ndr) skip(n int) {
	for range n {
		r.uint32()
	}
}

// count reads the size of a conformant array whose elements have that many bytes. It must be want,
// which is in the structure.
func (r *ndr) count(want uint32, size int) int {
	n := r.uint32()
	if r.err == nil && n != want {
		r.fail(fmt.Errorf("an array of %d elements where %d are announced", n, want))
	}
	if r.err == nil && uint64(n)*uint64(size) > uint64(len(r.b)-r.at) {
		r.fail(errShort)
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

// header reads the headers of a serialized type ([MS-RPCE], Section 2.2.6) and the pointer to it.
func (r *ndr) header() {
	version, order, length := r.next(1, 1)[0], r.next(1, 1)[0], r.uint16()
	r.skip(1)
	if r.err == nil && (version != 1 || order != 0x10 || length != 8) {
		r.fail(fmt.Errorf("serialization version %d, byte order %#x, header of %d bytes", version, order, length))
	}
	size := r.uint32()
	r.skip(1)
	if r.err == nil && uint64(size) > uint64(len(r.b)-r.at) {
		r.fail(errShort)
	}
	if r.err == nil {
		r.b = r.b[:r.at+int(size)]
	}
	if r.uint32() == 0 {
		r.fail(errors.New("nothing but a null pointer"))
	}
}

// text is an RPC_UNICODE_STRING ([MS-DTYP], Section 2.3.10) whose characters follow later.
type text struct {
	length uint16 // in bytes
	set    bool
}

func (r *ndr) text() text {
	t := text{length: r.uint16()}
	r.uint16() // the size that was allocated
	t.set = r.uint32() != 0
	if t.length%2 != 0 || !t.set && t.length != 0 {
		r.fail(fmt.Errorf("a string of %d bytes", t.length))
	}
	return t
}

// characters reads what a string points to.
func (r *ndr) characters(t text) []byte {
	if !t.set {
		return nil
	}
	size, offset, actual := r.uint32(), r.uint32(), r.uint32()
	if r.err == nil && (offset != 0 || actual != uint32(t.length/2) || actual > size) {
		r.fail(fmt.Errorf("a string of %d of %d characters from %d where %d are announced", actual, size, offset, t.length/2))
	}
	b := r.next(int(t.length), 2)
	if r.err != nil {
		return nil
	}
	return b
}

// sid reads the SID that a pointer points to.
func (r *ndr) sid(set bool) SID {
	if !set {
		return ""
	}
	subs := r.uint32()
	if r.err == nil && subs > maxSubAuthorities {
		r.fail(errSID)
	}
	if r.err != nil {
		return ""
	}
	sid, err := parseSID(r.next(sizeSID+4*int(subs), 4))
	if r.err == nil && err != nil {
		r.fail(err)
	}
	return sid
}

// groups reads an array of GROUP_MEMBERSHIP that a pointer points to.
func (r *ndr) groups(set bool, announced uint32) []Group {
	if !set {
		if announced != 0 {
			r.fail(errNoArray)
		}
		return nil
	}
	list := make([]Group, r.count(announced, 8))
	for i := range list {
		list[i] = Group{RID: r.uint32(), Attributes: r.uint32()}
	}
	return list
}

var errNoArray = errors.New("an array is announced and absent")

// SID is a security identifier in its text form, S-1-5-21-1-2-3-500 ([MS-DTYP], Section 2.4.2.1);
// "" for none.
type SID string

const (
	sizeSID           = 8
	maxSubAuthorities = 15
)

var errSID = errors.New("not a security identifier")

// parseSID reads a SID and nothing after it ([MS-DTYP], Section 2.4.2.2).
func parseSID(b []byte) (SID, error) {
	if len(b) < sizeSID || b[0] != 1 || b[1] > maxSubAuthorities || len(b) != sizeSID+4*int(b[1]) {
		return "", errSID
	}
	var s strings.Builder
	s.WriteString("S-1-")
	if authority := uint64(binary.BigEndian.Uint16(b[2:]))<<32 | uint64(binary.BigEndian.Uint32(b[4:])); authority < 1<<32 {
		s.WriteString(strconv.FormatUint(authority, 10))
	} else {
		fmt.Fprintf(&s, "0x%012X", authority)
	}
	for b = b[sizeSID:]; len(b) > 0; b = b[4:] {
		s.WriteByte('-')
		s.WriteString(strconv.FormatUint(uint64(binary.LittleEndian.Uint32(b)), 10))
	}
	return SID(s.String()), nil
}

// decodeUTF16 reads UTF-16, little endian. Half of a pair of surrogates is an error: two different
// names must not be read as one.
func decodeUTF16(b []byte) (string, error) {
	if len(b)%2 != 0 {
		return "", errUTF16
	}
	text := make([]byte, 0, len(b)/2)
	for ; len(b) > 0; b = b[2:] {
		r := rune(binary.LittleEndian.Uint16(b))
		if utf16.IsSurrogate(r) {
			if len(b) < 4 {
				return "", errUTF16
			}
			b = b[2:]
			if r = utf16.DecodeRune(r, rune(binary.LittleEndian.Uint16(b))); r == utf8.RuneError {
				return "", errUTF16
			}
		}
		text = utf8.AppendRune(text, r)
	}
	return string(text), nil
}

var errUTF16 = errors.New("a name is not UTF-16")

// textAt reads UTF-16 of size bytes at an offset of a buffer.
func textAt(b []byte, size, offset int) (string, error) {
	if offset > len(b) || size > len(b)-offset {
		return "", errShort
	}
	return decodeUTF16(b[offset : offset+size])
}
