package enctype

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/bits"
)

const camelliaBlockSize = 16

// camellia is the block cipher of RFC 3713 with keys of 128 and 256 bits.
type camellia struct {
	encrypt, decrypt camelliaSchedule
}

// camelliaSchedule holds the subkeys in the order of their use.
type camelliaSchedule struct {
	rounds int        // 18 or 24
	kw     [4]uint64  // whitening, two before and two after
	k      [24]uint64 // one a round
	ke     [6]uint64  // two after every six rounds but the last
}

// newCamelliaBlock is newCamellia for a profile's row.
func newCamelliaBlock(key []byte) (cipher.Block, error) {
	if len(key) != 16 && len(key) != 32 {
		return nil, fmt.Errorf("a Camellia key has 16 or 32 bytes, not %d", len(key))
	}
	return newCamellia(key), nil
}

// newCamellia expands a key of 16 or 32 bytes (RFC 3713, Section 2.2).
func newCamellia(key []byte) *camellia {
	kl := uint128{binary.BigEndian.Uint64(key), binary.BigEndian.Uint64(key[8:])}
	var kr uint128
	if len(key) == 32 {
		kr = uint128{binary.BigEndian.Uint64(key[16:]), binary.BigEndian.Uint64(key[24:])}
	}
	ka := mixKey(kl, kr, 0xa09e667f3bcc908b, 0xb67ae8584caa73b2)
	ka = mixKey(ka, kl, 0xc6ef372fe94f82be, 0x54ff53a5f1d36f1c)
	c := new(camellia)
	if len(key) == 16 {
		c.encrypt.fill128(kl, ka)
	} else {
		kb := mixKey(ka, kr, 0x10e527fade682d1d, 0xb05688c2b3e6c1fd)
		c.encrypt.fill256(kl, kr, ka, kb)
	}
	c.decrypt = c.encrypt.reversed()
	return c
}

// mixKey passes a xor b through two rounds keyed with constants.
func mixKey(a, b uint128, sigma1, sigma2 uint64) uint128 {
	d1, d2 := a.high^b.high, a.low^b.low
	d2 ^= camelliaF(d1, sigma1)
	d1 ^= camelliaF(d2, sigma2)
	return uint128{d1, d2}
}

func (s *camelliaSchedule) fill128(kl, ka uint128) {
	s.rounds = 18
	s.kw[0], s.kw[1] = kl.rotated(0)
	s.k[0], s.k[1] = ka.rotated(0)
	s.k[2], s.k[3] = kl.rotated(15)
	s.k[4], s.k[5] = ka.rotated(15)
	s.ke[0], s.ke[1] = ka.rotated(30)
	s.k[6], s.k[7] = kl.rotated(45)
	s.k[8], _ = ka.rotated(45)
	_, s.k[9] = kl.rotated(60)
	s.k[10], s.k[11] = ka.rotated(60)
	s.ke[2], s.ke[3] = kl.rotated(77)
	s.k[12], s.k[13] = kl.rotated(94)
	s.k[14], s.k[15] = ka.rotated(94)
	s.k[16], s.k[17] = kl.rotated(111)
	s.kw[2], s.kw[3] = ka.rotated(111)
}

func (s *camelliaSchedule) fill256(kl, kr, ka, kb uint128) {
	s.rounds = 24
	s.kw[0], s.kw[1] = kl.rotated(0)
	s.k[0], s.k[1] = kb.rotated(0)
	s.k[2], s.k[3] = kr.rotated(15)
	s.k[4], s.k[5] = ka.rotated(15)
	s.ke[0], s.ke[1] = kr.rotated(30)
	s.k[6], s.k[7] = kb.rotated(30)
	s.k[8], s.k[9] = kl.rotated(45)
	s.k[10], s.k[11] = ka.rotated(45)
	s.ke[2], s.ke[3] = kl.rotated(60)
	s.k[12], s.k[13] = kr.rotated(60)
	s.k[14], s.k[15] = kb.rotated(60)
	s.k[16], s.k[17] = kl.rotated(77)
	s.ke[4], s.ke[5] = ka.rotated(77)
	s.k[18], s.k[19] = kr.rotated(94)
	s.k[20], s.k[21] = ka.rotated(94)
	s.k[22], s.k[23] = kl.rotated(111)
	s.kw[2], s.kw[3] = kb.rotated(111)
}

// reversed returns the subkeys for the other direction (RFC 3713, Section 2.3.3).
func (s *camelliaSchedule) reversed() camelliaSchedule {
	r := camelliaSchedule{rounds: s.rounds}
	r.kw = [4]uint64{s.kw[2], s.kw[3], s.kw[0], s.kw[1]}
	for i := range s.rounds {
		r.k[i] = s.k[s.rounds-1-i]
	}
	layers := 2 * (s.rounds/6 - 1)
	for i := range layers {
		r.ke[i] = s.ke[layers-1-i]
	}
	return r
}

func (c *camellia) BlockSize() int          { return camelliaBlockSize }
func (c *camellia) Encrypt(dst, src []byte) { c.encrypt.crypt(dst, src) }
func (c *camellia) Decrypt(dst, src []byte) { c.decrypt.crypt(dst, src) }

// crypt passes a block through the Feistel network (RFC 3713, Section 2.3).
func (s *camelliaSchedule) crypt(dst, src []byte) {
	d1 := binary.BigEndian.Uint64(src) ^ s.kw[0]
	d2 := binary.BigEndian.Uint64(src[8:]) ^ s.kw[1]
	for i := 0; ; i += 6 {
		k := (*[6]uint64)(s.k[i:])
		d2 ^= camelliaF(d1, k[0])
		d1 ^= camelliaF(d2, k[1])
		d2 ^= camelliaF(d1, k[2])
		d1 ^= camelliaF(d2, k[3])
		d2 ^= camelliaF(d1, k[4])
		d1 ^= camelliaF(d2, k[5])
		if i+6 == s.rounds {
			break
		}
		d1 = camelliaFL(d1, s.ke[i/3])
		d2 = camelliaFLInverse(d2, s.ke[i/3+1])
	}
	binary.BigEndian.PutUint64(dst, d2^s.kw[2])
	binary.BigEndian.PutUint64(dst[8:], d1^s.kw[3])
}

// camelliaF is the round function: S-boxes and then the linear layer P, each
// table holding what one byte contributes to the result.
func camelliaF(in, key uint64) uint64 {
	x := in ^ key
	t := &camelliaSP
	return t[0][x>>56] ^ t[1][x>>48&0xff] ^ t[2][x>>40&0xff] ^ t[3][x>>32&0xff] ^
		t[4][x>>24&0xff] ^ t[5][x>>16&0xff] ^ t[6][x>>8&0xff] ^ t[7][x&0xff]
}

func camelliaFL(in, key uint64) uint64 {
	x1, x2 := uint32(in>>32), uint32(in)
	x2 ^= bits.RotateLeft32(x1&uint32(key>>32), 1)
	x1 ^= x2 | uint32(key)
	return uint64(x1)<<32 | uint64(x2)
}

func camelliaFLInverse(in, key uint64) uint64 {
	y1, y2 := uint32(in>>32), uint32(in)
	y1 ^= y2 | uint32(key)
	y2 ^= bits.RotateLeft32(y1&uint32(key>>32), 1)
	return uint64(y1)<<32 | uint64(y2)
}

// uint128 is a 128-bit quantity of the key schedule.
type uint128 struct{ high, low uint64 }

// rotated returns both halves after a rotation left by n < 128 bits.
func (v uint128) rotated(n int) (high, low uint64) {
	if n >= 64 {
		v.high, v.low = v.low, v.high
		n -= 64
	}
	if n == 0 {
		return v.high, v.low
	}
	return v.high<<n | v.low>>(64-n), v.low<<n | v.high>>(64-n)
}

// camelliaSP combines S-boxes and P, byte by byte.
var camelliaSP = makeCamelliaSP()

func makeCamelliaSP() (t [8][256]uint64) {
	// P (RFC 3713, Section 2.4.1): the bytes y1..y8, from the left, that t1..t8
	// is xored into.
	spread := [8]uint64{
		0xffffff00ff0000ff, // y1 y2 y3 y5 y8
		0x00ffffffffff0000, // y2 y3 y4 y5 y6
		0xff00ffff00ffff00, // y1 y3 y4 y6 y7
		0xffff00ff0000ffff, // y1 y2 y4 y7 y8
		0x00ffffff00ffffff, // y2 y3 y4 y6 y7 y8
		0xff00ffffff00ffff, // y1 y3 y4 y5 y7 y8
		0xffff00ffffff00ff, // y1 y2 y4 y5 y6 y8
		0xffffff00ffffff00, // y1 y2 y3 y5 y6 y7
	}
	// The S-boxes are rotations of the first one.
	s1 := func(x byte) byte { return camelliaS1[x] }
	s2 := func(x byte) byte { return bits.RotateLeft8(camelliaS1[x], 1) }
	s3 := func(x byte) byte { return bits.RotateLeft8(camelliaS1[x], 7) }
	s4 := func(x byte) byte { return camelliaS1[bits.RotateLeft8(x, 1)] }
	for i, s := range [8]func(byte) byte{s1, s2, s3, s4, s2, s3, s4, s1} {
		for x := range 256 {
			t[i][x] = uint64(s(byte(x))) * 0x0101010101010101 & spread[i]
		}
	}
	return t
}

// camelliaS1 is SBOX1 of RFC 3713, Section 2.4.1.
var camelliaS1 = [256]byte{
	112, 130, 44, 236, 179, 39, 192, 229, 228, 133, 87, 53, 234, 12, 174, 65,
	35, 239, 107, 147, 69, 25, 165, 33, 237, 14, 79, 78, 29, 101, 146, 189,
	134, 184, 175, 143, 124, 235, 31, 206, 62, 48, 220, 95, 94, 197, 11, 26,
	166, 225, 57, 202, 213, 71, 93, 61, 217, 1, 90, 214, 81, 86, 108, 77,
	139, 13, 154, 102, 251, 204, 176, 45, 116, 18, 43, 32, 240, 177, 132, 153,
	223, 76, 203, 194, 52, 126, 118, 5, 109, 183, 169, 49, 209, 23, 4, 215,
	20, 88, 58, 97, 222, 27, 17, 28, 50, 15, 156, 22, 83, 24, 242, 34,
	254, 68, 207, 178, 195, 181, 122, 145, 36, 8, 232, 168, 96, 252, 105, 80,
	170, 208, 160, 125, 161, 137, 98, 151, 84, 91, 30, 149, 224, 255, 100, 210,
	16, 196, 0, 72, 163, 247, 117, 219, 138, 3, 230, 218, 9, 63, 221, 148,
	135, 92, 131, 2, 205, 74, 144, 51, 115, 103, 246, 243, 157, 127, 191, 226,
	82, 155, 216, 38, 200, 55, 198, 59, 129, 150, 111, 75, 19, 190, 99, 46,
	233, 121, 167, 140, 159, 110, 188, 142, 41, 245, 249, 182, 47, 253, 180, 89,
	120, 152, 6, 106, 231, 70, 113, 186, 212, 37, 171, 66, 136, 162, 141, 250,
	114, 7, 185, 85, 248, 238, 172, 10, 54, 73, 42, 104, 60, 56, 241, 164,
	64, 40, 211, 123, 187, 201, 67, 193, 21, 227, 173, 244, 119, 199, 128, 158,
}
