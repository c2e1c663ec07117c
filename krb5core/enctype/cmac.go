package enctype

import (
	"crypto/subtle"
	"encoding/binary"
)

// cmac is CMAC (NIST SP 800-38B) with Camellia, as in RFC 6803.
type cmac struct {
	c *camellia
	// subkeys for a last block that is whole, and for one that was padded
	whole, padded [camelliaBlockSize]byte
}

func newCMAC(key []byte) mac {
	m := &cmac{c: newCamellia(key)}
	m.c.Encrypt(m.whole[:], m.whole[:])
	m.whole = double(m.whole)
	m.padded = double(m.whole)
	return m
}

// double multiplies by x in GF(2^128).
func double(b [camelliaBlockSize]byte) [camelliaBlockSize]byte {
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	carry := high >> 63
	high = high<<1 | low>>63
	low = low<<1 ^ carry*0x87
	binary.BigEndian.PutUint64(b[:8], high)
	binary.BigEndian.PutUint64(b[8:], low)
	return b
}

// sum implements mac. Nothing in this package authenticates a prefix with CMAC.
func (m *cmac) sum(out, _, data []byte) {
	var state [camelliaBlockSize]byte
	for len(data) > camelliaBlockSize {
		subtle.XORBytes(state[:], state[:], data[:camelliaBlockSize])
		m.c.Encrypt(state[:], state[:])
		data = data[camelliaBlockSize:]
	}
	subtle.XORBytes(state[:], state[:], data)
	if len(data) == camelliaBlockSize {
		subtle.XORBytes(state[:], state[:], m.whole[:])
	} else {
		state[len(data)] ^= 0x80
		subtle.XORBytes(state[:], state[:], m.padded[:])
	}
	m.c.Encrypt(state[:], state[:])
	copy(out, state[:])
}
