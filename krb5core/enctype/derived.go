package enctype

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

// The last byte of a derivation constant says what the derived key is for
// (RFC 3961, Section 5.3).
const (
	forChecksum   byte = 0x99 // Kc
	forEncryption byte = 0xaa // Ke
	forIntegrity  byte = 0x55 // Ki
)

// usageKey derives one of the three keys that a usage has.
func (p *profile) usageKey(key []byte, usage Usage, purpose byte) []byte {
	size := p.macKeySize
	if purpose == forEncryption {
		size = p.keySize
	}
	constant := binary.BigEndian.AppendUint32(nil, uint32(usage))
	return p.derive(p, key, append(constant, purpose), size)
}

// derivedMode is encryption with derived keys: that of RFC 3961, Section 5.3,
// RFC 3962 and RFC 6803, which authenticate the plaintext, and that of RFC
// 8009, which authenticates the ciphertext.
//
//	E(Ke, confounder | plaintext) | MAC(Ki, confounder | plaintext)
//	C = E(Ke, confounder | plaintext), C | MAC(Ki, initial state | C)
type derivedMode struct {
	p     *profile
	block cipher.Block
	mac   mac
}

func newDerivedMode(s *Sealer, key []byte) mode {
	s.derived = derivedMode{
		p:     s.p,
		block: sized(s.p.newBlock(s.p.usageKey(key, s.usage, forEncryption))),
		mac:   s.p.newMAC(s.p.usageKey(key, s.usage, forIntegrity)),
	}
	return &s.derived
}

func (m *derivedMode) seal(buf []byte) {
	body, sum := buf[:len(buf)-m.p.macSize], buf[len(buf)-m.p.macSize:]
	if m.p.encryptThenMAC {
		m.encrypt(body)
		m.mac.sum(sum, zeroBlock[:], body)
		return
	}
	m.mac.sum(sum, nil, body)
	m.encrypt(body)
}

func (m *derivedMode) open(buf []byte) error {
	body, sum := buf[:len(buf)-m.p.macSize], buf[len(buf)-m.p.macSize:]
	want := make([]byte, m.p.macSize)
	if m.p.encryptThenMAC {
		m.mac.sum(want, zeroBlock[:], body)
	} else {
		m.decrypt(body)
		m.mac.sum(want, nil, body)
	}
	if subtle.ConstantTimeCompare(want, sum) != 1 {
		return ErrIntegrity
	}
	if m.p.encryptThenMAC {
		m.decrypt(body)
	}
	return nil
}

func (m *derivedMode) encrypt(body []byte) {
	if m.p.block > 1 {
		cbcEncrypt(m.block, zeroBlock[:m.p.block], body)
	} else {
		ctsEncrypt(m.block, body)
	}
}

func (m *derivedMode) decrypt(body []byte) {
	if m.p.block > 1 {
		cbcDecrypt(m.block, zeroBlock[:m.p.block], body)
	} else {
		ctsDecrypt(m.block, body)
	}
}

// derivedChecksum is the mandatory checksum of the types with derived keys.
func derivedChecksum(p *profile, key []byte, usage Usage, data []byte) []byte {
	sum := make([]byte, p.macSize)
	p.newMAC(p.usageKey(key, usage, forChecksum)).sum(sum, nil, data)
	return sum
}
