package gss

import (
	"crypto/rand"
	"encoding/base64"
	"io"
	"slices"
	"sync"
	"time"
)

// scratch holds the buffers for minting one token. A pool keeps them.
type scratch struct {
	tail   []byte // the token's end: up to two bytes before the ciphertext, and the ciphertext
	base64 []byte // of tail

	nonce [4 + 16]byte // sequence number and confounder

	second int64 // of ctime
	ctime  [timeLen]byte

	// Bytes read ahead from crypto/rand; those before used are zeroed. A read of 1 KiB costs little
	// more than one of 64 bytes if it is a system call.
	random [1024]byte
	used   int
}

var scratches = sync.Pool{New: func() any {
	return &scratch{used: len(scratch{}.random)}
}}

// readRandom fills dst with random bytes from r, or from the operating system if r is nil.
func (s *scratch) readRandom(dst []byte, r io.Reader) error {
	if r != nil {
		_, err := io.ReadFull(r, dst)
		return err
	}
	for len(dst) > 0 {
		if s.used == len(s.random) {
			if _, err := rand.Read(s.random[:]); err != nil {
				return err
			}
			s.used = 0
		}
		n := copy(dst, s.random[s.used:])
		clear(s.random[s.used : s.used+n]) // keep no subkey here
		s.used += n
		dst = dst[n:]
	}
	return nil
}

// timeOf is stamp's ctime as a KerberosTime (RFC 4120, Section 5.2.3), which changes once a second.
func (s *scratch) timeOf(stamp Stamp) *[timeLen]byte {
	if stamp.Second != s.second {
		s.second = stamp.Second
		time.Unix(stamp.Second, 0).UTC().AppendFormat(s.ctime[:0], "20060102150405Z")
	}
	return &s.ctime
}

func (s *scratch) encodeTail() []byte {
	s.base64 = slices.Grow(s.base64[:0], base64.StdEncoding.EncodedLen(len(s.tail)))
	s.base64 = base64.StdEncoding.AppendEncode(s.base64, s.tail)
	return s.base64
}

// randomReader reads random bytes by way of its scratch.
type randomReader struct {
	s *scratch
	r io.Reader
}

func (r randomReader) Read(p []byte) (int, error) {
	if err := r.s.readRandom(p, r.r); err != nil {
		return 0, err
	}
	return len(p), nil
}
