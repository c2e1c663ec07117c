package enctype

import (
	"crypto/subtle"
	"fmt"
)

// PRFPlus is PRF+ of RFC 6113, Section 5.1: as many bytes as wanted of the
// pseudo-random function of the key's type (RFC 3961, Section 3) over a counter and data. The counter is one byte, so n is at most 255 times
// the length of a PRF.
func PRFPlus(k Key, data []byte, n int) ([]byte, error) {
	p, err := k.profile()
	if err != nil {
		return nil, err
	}
	return p.prfPlus(k.Bytes(), data, n)
}

func (p *profile) prfPlus(key, data []byte, n int) ([]byte, error) {
	var out []byte
	for counter := 1; len(out) < n; counter++ {
		if counter > 255 {
			return nil, fmt.Errorf("PRF+ with %s does not reach %d bytes", p.name, n)
		}
		out = append(out, p.prf(p, key, append([]byte{byte(counter)}, data...))...)
	}
	return out[:max(n, 0)], nil
}

// CF2 combines two keys into one of k1's type, KRB-FX-CF2 of RFC 6113, Section
// 5.1.
func CF2(k1, k2 Key, pepper1, pepper2 string) (Key, error) {
	p1, err := k1.profile()
	if err != nil {
		return Key{}, err
	}
	seed1, err := p1.prfPlus(k1.Bytes(), []byte(pepper1), p1.seedSize)
	if err != nil {
		return Key{}, err
	}
	seed2, err := PRFPlus(k2, []byte(pepper2), p1.seedSize)
	if err != nil {
		return Key{}, err
	}
	subtle.XORBytes(seed1, seed1, seed2)
	return newKey(p1.id, p1.randomToKey(seed1)), nil
}
