package enctype

import (
	"crypto/fips140"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"hash"
	"sync"
)

// mac is a keyed checksum, safe for concurrent use.
type mac interface {
	// sum fills out with the first bytes of the MAC over prefix and data.
	sum(out, prefix, data []byte)
}

// hashAlg is a hash function with a pool of its states. The states belong to no
// key, so that a server with very many keys needs no more of them than it has
// processors at work.
type hashAlg struct {
	new    func() hash.Hash
	states sync.Pool // of *hashState
}

// hashState is a hash that can go back to a saved state, and space for its sum.
type hashState struct {
	hash.Hash
	saved encoding.BinaryUnmarshaler
	buf   [sha512.Size]byte
}

var (
	sha1Alg   = newHashAlg(sha1.New)
	sha256Alg = newHashAlg(sha256.New)
	sha384Alg = newHashAlg(sha512.New384)
)

func newHashAlg(newHash func() hash.Hash) *hashAlg {
	a := &hashAlg{new: newHash}
	a.states.New = func() any {
		h := newHash()
		return &hashState{Hash: h, saved: h.(encoding.BinaryUnmarshaler)}
	}
	return a
}

// appendState appends the saved state of a hash that has seen the key, each byte
// xored with pad, zeros up to a block.
func (a *hashAlg) appendState(dst, key []byte, pad byte) []byte {
	h := a.new()
	block := make([]byte, h.BlockSize())
	copy(block, key)
	for i := range block {
		block[i] ^= pad
	}
	h.Write(block)
	dst, err := h.(encoding.BinaryAppender).AppendBinary(dst)
	if err != nil {
		panic("enctype: saving a hash state: " + err.Error())
	}
	return dst
}

func (s *hashState) restore(state []byte) {
	if err := s.saved.UnmarshalBinary(state); err != nil {
		panic("enctype: restoring a hash state: " + err.Error())
	}
}

// hmacMAC is HMAC with the hash states after both pads kept instead of the key
// (RFC 2104, Section 4, FIPS 198-1, Section 6).
type hmacMAC struct {
	alg          *hashAlg
	inner, outer []byte
	buf          [216]byte // for both, unless the hash is of 512 bits
}

// moduleHMAC is HMAC by crypto/hmac, a new one each time.
type moduleHMAC struct {
	alg *hashAlg
	key []byte
}

// newHMAC returns HMAC with a key not longer than a block of the hash.
func (a *hashAlg) newHMAC(key []byte) mac {
	if fips140.Enabled() {
		return &moduleHMAC{a, key}
	}
	m := &hmacMAC{alg: a}
	states := a.appendState(m.buf[:0], key, 0x36)
	n := len(states)
	states = a.appendState(states, key, 0x5c)
	m.inner, m.outer = states[:n], states[n:]
	return m
}

func (m *moduleHMAC) sum(out, prefix, data []byte) {
	copy(out, hmacSum(m.alg.new, m.key, prefix, data))
}

func (m *hmacMAC) sum(out, prefix, data []byte) {
	s := m.alg.states.Get().(*hashState)
	s.restore(m.inner)
	if len(prefix) > 0 {
		s.Write(prefix)
	}
	s.Write(data)
	inner := s.Sum(s.buf[:0])
	s.restore(m.outer)
	s.Write(inner)
	copy(out, s.Sum(s.buf[:0]))
	m.alg.states.Put(s)
}

// hmacSum is HMAC where nothing is kept.
func hmacSum(newHash func() hash.Hash, key []byte, data ...[]byte) []byte {
	h := hmac.New(newHash, key)
	for _, d := range data {
		h.Write(d)
	}
	return h.Sum(nil)
}
