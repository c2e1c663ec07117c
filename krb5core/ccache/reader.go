package ccache

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// A reader reads the numbers and octet strings of a file and keeps the first
// error, after which all that it reads is zero.
type reader struct {
	b       []byte
	at      int
	order   binary.ByteOrder
	version int
	err     *FormatError
}

func (r *reader) fail(at int, reason string) {
	if r.err == nil {
		r.err = &FormatError{at, reason}
	}
}

// next returns the next n octets, nil with r.err set if there are fewer.
func (r *reader) next(n int, what string) []byte {
	if r.err != nil {
		return nil
	}
	if there := len(r.b) - r.at; n > there {
		r.fail(len(r.b), fmt.Sprintf("cut short: the %s has %d octets, of which %d are there; is the file being written?", what, n, there))
		return nil
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

func (r *reader) uint8(what string) uint8 {
	if b := r.next(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16(what string) uint16 {
	if b := r.next(2, what); b != nil {
		return r.order.Uint16(b)
	}
	return 0
}

func (r *reader) uint32(what string) uint32 {
	if b := r.next(4, what); b != nil {
		return r.order.Uint32(b)
	}
	return 0
}

// count reads how many things follow, each of which has at least size octets.
func (r *reader) count(what string, size int) uint32 {
	at := r.at
	n := r.uint32("number of " + what)
	if there := uint64(len(r.b) - r.at); uint64(n)*uint64(size) > there {
		r.fail(at, fmt.Sprintf("%d %s do not fit into the %d octets that follow; the file is damaged or being written", n, what, there))
		return 0
	}
	return n
}

// data reads u32 length, octets. They are those of the file.
func (r *reader) data(what string) []byte {
	at := r.at
	n := r.uint32("length of the " + what)
	if there := len(r.b) - r.at; r.err == nil && uint64(n) > uint64(there) {
		r.fail(at, fmt.Sprintf("cut short or damaged: the %s has %d octets, of which %d are there; is the file being written?", what, n, there))
	}
	return r.next(int(n), what)
}

// clone reads data into memory of its own, nil if it is empty.
func (r *reader) clone(what string) []byte {
	if b := r.data(what); len(b) > 0 {
		return bytes.Clone(b)
	}
	return nil
}
