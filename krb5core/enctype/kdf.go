package enctype

import (
	"crypto/sha1"
	"encoding/binary"
)

// simplifiedDerive is DK of the simplified profile (RFC 3961, Section 5.1):
// random-to-key of DR, which is the cipher run in feedback over the folded
// constant. Derived keys are as long as others in this profile, so size says
// nothing new.
func simplifiedDerive(p *profile, key, constant []byte, _ int) []byte {
	return p.randomToKey(deriveRandom(p, key, constant))
}

// deriveRandom is DR (RFC 3961, Section 5.1), the bytes before random-to-key.
func deriveRandom(p *profile, key, constant []byte) []byte {
	b := sized(p.newBlock(key))
	block := constant
	if len(constant) != b.BlockSize() {
		block = nfold(constant, b.BlockSize())
	}
	random := make([]byte, 0, p.seedSize+b.BlockSize())
	for len(random) < p.seedSize {
		next := make([]byte, b.BlockSize())
		b.Encrypt(next, block)
		random = append(random, next...)
		block = next
	}
	return random[:p.seedSize]
}

// nfold stretches or shrinks in to size bytes (RFC 3961, Section 5.1): copies
// of in, each rotated 13 bits further to the right, are added up in ones'
// complement.
func nfold(in []byte, size int) []byte {
	total := len(in) * size / gcd(len(in), size) // least common multiple
	sum := make([]uint32, size)
	for i := range total {
		sum[i%size] += uint32(rotatedByte(in, i%len(in), 13*(i/len(in))))
	}
	// Carries go to the byte on the left and from the leftmost around to the
	// last.
	out := make([]byte, size)
	for carry := uint32(0); ; {
		for i := size - 1; i >= 0; i-- {
			carry += sum[i]
			sum[i] = carry & 0xff
			carry >>= 8
		}
		if carry == 0 {
			break
		}
	}
	for i, v := range sum {
		out[i] = byte(v)
	}
	return out
}

func rotatedByte(in []byte, i, n int) byte {
	length := 8 * len(in)
	bit := ((8*i-n)%length + length) % length
	high, low := in[bit/8], in[(bit/8+1)%len(in)]
	return byte((uint16(high)<<8 | uint16(low)) >> (8 - bit%8))
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// simplifiedPRF is the PRF of the simplified profile (RFC 3961, Section 5.3):
// whole blocks of a SHA-1 digest, encrypted.
func simplifiedPRF(p *profile, key, data []byte) []byte {
	b := sized(p.newBlock(p.derive(p, key, []byte("prf"), p.keySize)))
	digest := sha1.Sum(data)
	out := digest[:len(digest)/b.BlockSize()*b.BlockSize()]
	cbcEncrypt(b, zeroBlock[:b.BlockSize()], out)
	return out
}

// aesSHA2Derive is KDF-HMAC-SHA2 without a context (RFC 8009, Section 3).
func aesSHA2Derive(p *profile, key, label []byte, size int) []byte {
	return kdfHMACSHA2(p, key, label, nil, size)
}

// aesSHA2PRF is the PRF of RFC 8009, Section 5: a KDF whose context is the data.
func aesSHA2PRF(p *profile, key, data []byte) []byte {
	return kdfHMACSHA2(p, key, []byte("prf"), data, p.hash.new().Size())
}

// kdfHMACSHA2 is one block of the KDF in counter mode of NIST SP 800-108, which is
// all that RFC 8009 ever needs.
func kdfHMACSHA2(p *profile, key, label, context []byte, size int) []byte {
	length := binary.BigEndian.AppendUint32(nil, uint32(8*size))
	return hmacSum(p.hash.new, key, []byte{0, 0, 0, 1}, label, []byte{0}, context, length)[:size]
}

// camelliaDerive is KDF-FEEDBACK-CMAC (RFC 6803, Section 3).
func camelliaDerive(_ *profile, key, constant []byte, size int) []byte {
	m := newCMAC(key)
	length := binary.BigEndian.AppendUint32(nil, uint32(8*size))
	var out []byte
	block := zeroBlock[:]
	for i := uint32(1); len(out) < size; i++ {
		input := binary.BigEndian.AppendUint32(append([]byte(nil), block...), i)
		input = append(append(append(input, constant...), 0), length...)
		next := make([]byte, camelliaBlockSize)
		m.sum(next, nil, input)
		out = append(out, next...)
		block = next
	}
	return out[:size]
}

// camelliaPRF is the PRF of RFC 6803, Section 6.
func camelliaPRF(p *profile, key, data []byte) []byte {
	out := make([]byte, camelliaBlockSize)
	newCMAC(p.derive(p, key, []byte("prf"), p.keySize)).sum(out, nil, data)
	return out
}
