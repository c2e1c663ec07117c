package filefmt

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Magic is the first byte of a file; its version follows.
const Magic = 5

// FormatError reports why bytes are not a file of a format, and where.
type FormatError struct {
	Format string // "keytab" or "credential cache"
	Offset int    // in bytes, from the start of the file
	Reason string // with the remedy
}

// Error returns format, offset and reason.
func (e *FormatError) Error() string {
	return fmt.Sprintf("%s, byte %d: %s", e.Format, e.Offset, e.Reason)
}

// Reader reads the integers and byte strings of a file. It keeps the first
// error, after which all that it returns is zero. What a value is goes into
// the text of the error.
type Reader struct {
	Format string // for errors
	Remedy string // of data that is cut short
	Bytes  []byte // the file, up to the end of the record
	At     int    // the offset of the next byte
	Order  binary.ByteOrder
	Err    *FormatError
}

// Fail sets the error unless there is one.
func (r *Reader) Fail(at int, format string, args ...any) {
	if r.Err == nil {
		r.Err = &FormatError{r.Format, at, fmt.Sprintf(format, args...)}
	}
}

// Left returns how many bytes follow.
func (r *Reader) Left() int { return len(r.Bytes) - r.At }

// Next returns the next n bytes, nil with Err set if there are fewer. They
// share memory with the file.
func (r *Reader) Next(n uint32, what string) []byte {
	if r.Err != nil {
		return nil
	}
	if uint64(n) > uint64(r.Left()) {
		r.Fail(r.At, "cut short or damaged: the %s has %d bytes, of which %d are present; %s", what, n, r.Left(), r.Remedy)
		return nil
	}
	r.At += int(n)
	return r.Bytes[r.At-int(n) : r.At]
}

// Uint8 reads an integer of 8 bits.
func (r *Reader) Uint8(what string) uint8 {
	if b := r.Next(1, what); b != nil {
		return b[0]
	}
	return 0
}

// Uint16 reads an integer of 16 bits.
func (r *Reader) Uint16(what string) uint16 {
	if b := r.Next(2, what); b != nil {
		return r.Order.Uint16(b)
	}
	return 0
}

// Uint32 reads an integer of 32 bits.
func (r *Reader) Uint32(what string) uint32 {
	if b := r.Next(4, what); b != nil {
		return r.Order.Uint32(b)
	}
	return 0
}

// Data16 reads a length of 16 bits and as many bytes.
func (r *Reader) Data16(what string) []byte {
	return r.Next(uint32(r.Uint16("length of the "+what)), what)
}

// Data32 reads a length of 32 bits and as many bytes.
func (r *Reader) Data32(what string) []byte {
	return r.Next(r.Uint32("length of the "+what), what)
}

// Time reads seconds since 1970, up to the year 2106; 0 is the zero time.
func (r *Reader) Time(what string) time.Time {
	if seconds := r.Uint32(what); seconds != 0 {
		return time.Unix(int64(seconds), 0).UTC()
	}
	return time.Time{}
}

// EitherOrder parses a file that is in the byte order of its writer and does
// not say in which. In the wrong one, the first lengths do not fit the file. If
// both fail, the error is that of the order that got further.
func EitherOrder[T any](parse func(binary.ByteOrder) (T, *FormatError)) (T, *FormatError) {
	little, littleErr := parse(binary.LittleEndian)
	if littleErr == nil {
		return little, nil
	}
	big, bigErr := parse(binary.BigEndian)
	if bigErr == nil || bigErr.Offset > littleErr.Offset {
		return big, bigErr
	}
	return little, littleErr
}
