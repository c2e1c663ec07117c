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
	// sum fills out with the first octets of the MAC over prefix and data.
	sum(out, prefix, data []byte)
}

// hashAlg is a hash function with a pool of its states. The states belong to no
// key, so that a server with very many keys needs no more of them than it has
// processors at work.
type hashAlg struct {
	new    func() hash.Hash
	states sync.Pool // of *hashState
}

// hashState is a hash that can go back to a saved state, and room for its sum.
type hashState struct {
	hash.Hash
	saved encoding.BinaryUnmarshaler
	room  [sha512.Size]byte
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

// after returns the saved state of a hash that has seen the key, each octet xored
// with pad, zeros up to a block.
func (a *hashAlg) after(key []byte, pad byte) []byte {
	h := a.new()
	block := make([]byte, h.BlockSize())
	copy(block, key)
	for i := range block {
		block[i] ^= pad
	}
	h.Write(block)
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic("enctype: saving a hash state: " + err.Error())
	}
	return state
}

// restore goes back to a saved state.
func (s *hashState) restore(state []byte) {
	if err := s.saved.UnmarshalBinary(state); err != nil {
		panic("enctype: restoring a hash state: " + err.Error())
	}
}

// hmacMAC is HMAC with the hash states after both pads kept (RFC 2104 section 4,
// FIPS 198-1 section 6). While the FIPS module is enabled it is crypto/hmac, anew
// each time.
type hmacMAC struct {
	alg          *hashAlg
	key          []byte
	inner, outer []byte
}

// newHMAC returns HMAC with a key not longer than a block of the hash.
func (a *hashAlg) newHMAC(key []byte) mac {
	m := &hmacMAC{alg: a, key: key}
	if !fips140.Enabled() {
		m.inner, m.outer = a.after(key, 0x36), a.after(key, 0x5c)
	}
	return m
}

func (m *hmacMAC) sum(out, prefix, data []byte) {
	if m.inner == nil {
		copy(out, hmacSum(m.alg.new, m.key, prefix, data))
		return
	}
	s := m.alg.states.Get().(*hashState)
	s.restore(m.inner)
	if len(prefix) > 0 {
		s.Write(prefix)
	}
	s.Write(data)
	inner := s.Sum(s.room[:0])
	s.restore(m.outer)
	s.Write(inner)
	copy(out, s.Sum(s.room[:0]))
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
