package enctype

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"crypto/md5"
	"crypto/subtle"
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// desMode is single DES, which has no derived keys and so no usages (RFC 3961,
// Section 6.2):
//
//	DES-CBC(key, confounder | checksum | plaintext | padding)
//
// The checksum covers all of that, itself taken as zeros.
type desMode struct {
	block cipher.Block
	iv    []byte
	sum   func(data []byte) []byte
}

func newDESMD5Mode(_ *Sealer, key []byte) mode {
	return &desMode{mustDES(key), zeroBlock[:des.BlockSize], md5Sum}
}

// newDESCRCMode differs in that the key is the initial state (RFC 3961, Section
// 6.2.3).
func newDESCRCMode(_ *Sealer, key []byte) mode {
	return &desMode{mustDES(key), key, crc}
}

func (m *desMode) seal(buf []byte) {
	copy(buf[des.BlockSize:], m.sum(buf))
	cbcEncrypt(m.block, m.iv, buf)
}

func (m *desMode) open(buf []byte) error {
	cbcDecrypt(m.block, m.iv, buf)
	at := buf[des.BlockSize:][:len(m.sum(nil))]
	sum := bytes.Clone(at)
	clear(at)
	if subtle.ConstantTimeCompare(sum, m.sum(buf)) != 1 {
		return ErrIntegrity
	}
	return nil
}

func mustDES(key []byte) cipher.Block { return sized(des.NewCipher(key)) }

// sized is for ciphers with keys of a size that is right by construction.
func sized[T any](c T, err error) T {
	if err != nil {
		panic("enctype: " + err.Error())
	}
	return c
}

func md5Sum(data []byte) []byte {
	sum := md5.Sum(data)
	return sum[:]
}

// crc is the modified CRC-32 of RFC 3961, Section 6.1.3: neither the register's
// start nor the result are inverted.
func crc(data []byte) []byte {
	const noInversion = 0xffffffff // undoes that of package crc32
	sum := noInversion ^ crc32.Update(noInversion, crc32.IEEETable, data)
	return binary.LittleEndian.AppendUint32(nil, sum)
}

// desChecksum is rsa-md5-des (RFC 3961, Section 6.2.4): confounder and MD5 over
// it and data, encrypted with a variant of the key. The confounder is made of
// key, usage and data: equal checksums then tell of equal data under an equal
// usage and of nothing else.
func desChecksum(_ *profile, key []byte, usage Usage, data []byte) []byte {
	confounder := hmacMD5(key, usage, data)[:des.BlockSize]
	sum := append(bytes.Clone(confounder), md5Sum(append(confounder, data...))...)
	cbcEncrypt(mustDES(desChecksumKey(key)), zeroBlock[:des.BlockSize], sum)
	return sum
}

func desChecksumMatches(key, data, sum []byte) bool {
	if len(sum) != des.BlockSize+md5.Size {
		return false
	}
	sum = bytes.Clone(sum)
	cbcDecrypt(mustDES(desChecksumKey(key)), zeroBlock[:des.BlockSize], sum)
	confounder := sum[:des.BlockSize:des.BlockSize]
	return subtle.ConstantTimeCompare(sum[des.BlockSize:], md5Sum(append(confounder, data...))) == 1
}

func desChecksumKey(key []byte) []byte {
	variant := bytes.Clone(key)
	for i := range variant {
		variant[i] ^= 0xf0
	}
	return variant
}

// desPRF is the pseudo-random function of RFC 3961, Section 6.2: an MD5 digest,
// encrypted.
func desPRF(_ *profile, key, data []byte) []byte {
	out := md5Sum(data)
	cbcEncrypt(mustDES(key), zeroBlock[:des.BlockSize], out)
	return out
}

// desStringToKey is mit_des_string_to_key (RFC 3961, Section 6.2).
func desStringToKey(_ *profile, password, salt string, _ int) ([]byte, error) {
	padded := []byte(password + salt)
	for len(padded)%des.BlockSize != 0 {
		padded = append(padded, 0)
	}
	key := desKey(fanFold(padded))
	sum := bytes.Clone(key)
	for block := range blocks(padded) {
		subtle.XORBytes(sum, sum, block)
		mustDES(key).Encrypt(sum, sum)
	}
	return desKey(sum), nil
}

// fanFold adds up the blocks of in, seven bits of a byte, every second block with
// its bits in reverse, and leaves them in the upper seven bits of each byte.
func fanFold(in []byte) []byte {
	fold := make([]byte, des.BlockSize)
	forward := true
	for block := range blocks(in) {
		for i, b := range block {
			if forward {
				fold[i] ^= b << 1
			} else {
				fold[len(fold)-1-i] ^= bits.Reverse8(b) &^ 1
			}
		}
		forward = !forward
	}
	return fold
}

func blocks(in []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(in) > 0 && yield(in[:des.BlockSize]) {
			in = in[des.BlockSize:]
		}
	}
}

// desRandomToKey spreads 56 bits over eight bytes (RFC 3961, Section 6.3.1):
// seven as they are but for the lowest bit of each, which together make the
// eighth.
func desRandomToKey(seed []byte) []byte {
	key := append(bytes.Clone(seed[:7]), 0)
	for i, b := range seed[:7] {
		key[7] |= b & 1 << (i + 1)
	}
	return desKey(key)
}

// desKey corrects bytes to a key: odd parity, and neither weak nor semi-weak.
func desKey(raw []byte) []byte {
	key := make([]byte, len(raw))
	for i, b := range raw {
		key[i] = b&^1 | byte(1^bits.OnesCount8(b&^1)&1)
	}
	if desWeakKeys[[8]byte(key)] {
		key[7] ^= 0xf0
	}
	return key
}

var desWeakKeys = map[[8]byte]bool{
	{0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01}: true,
	{0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe}: true,
	{0x1f, 0x1f, 0x1f, 0x1f, 0x0e, 0x0e, 0x0e, 0x0e}: true,
	{0xe0, 0xe0, 0xe0, 0xe0, 0xf1, 0xf1, 0xf1, 0xf1}: true,
	{0x01, 0xfe, 0x01, 0xfe, 0x01, 0xfe, 0x01, 0xfe}: true,
	{0xfe, 0x01, 0xfe, 0x01, 0xfe, 0x01, 0xfe, 0x01}: true,
	{0x1f, 0xe0, 0x1f, 0xe0, 0x0e, 0xf1, 0x0e, 0xf1}: true,
	{0xe0, 0x1f, 0xe0, 0x1f, 0xf1, 0x0e, 0xf1, 0x0e}: true,
	{0x01, 0xe0, 0x01, 0xe0, 0x01, 0xf1, 0x01, 0xf1}: true,
	{0xe0, 0x01, 0xe0, 0x01, 0xf1, 0x01, 0xf1, 0x01}: true,
	{0x1f, 0xfe, 0x1f, 0xfe, 0x0e, 0xfe, 0x0e, 0xfe}: true,
	{0xfe, 0x1f, 0xfe, 0x1f, 0xfe, 0x0e, 0xfe, 0x0e}: true,
	{0x01, 0x1f, 0x01, 0x1f, 0x01, 0x0e, 0x01, 0x0e}: true,
	{0x1f, 0x01, 0x1f, 0x01, 0x0e, 0x01, 0x0e, 0x01}: true,
	{0xe0, 0xfe, 0xe0, 0xfe, 0xf1, 0xfe, 0xf1, 0xfe}: true,
	{0xfe, 0xe0, 0xfe, 0xe0, 0xfe, 0xf1, 0xfe, 0xf1}: true,
}

// des3StringToKey folds password and salt to 168 bits (RFC 3961, Section 6.3.1).
func des3StringToKey(p *profile, password, salt string, _ int) ([]byte, error) {
	text := password + salt
	if text == "" {
		text = "\x00" // n-fold of nothing is nothing: zeros
	}
	key := p.randomToKey(nfold([]byte(text), p.seedSize))
	return p.derive(p, key, []byte("kerberos"), p.keySize), nil
}

// des3RandomToKey makes three keys of 56 bits each (RFC 3961, Section 6.3.1).
func des3RandomToKey(seed []byte) []byte {
	key := make([]byte, 0, 24)
	for ; len(seed) > 0; seed = seed[7:] {
		key = append(key, desRandomToKey(seed[:7])...)
	}
	return key
}
