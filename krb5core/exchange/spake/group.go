package spake

import (
	"errors"
	"fmt"
	"io"

	"filippo.io/edwards25519"
	"filippo.io/nistec"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// group computes in a group of RFC 9588, Section 12.2. Private values, multipliers and elements are
// byte strings as in the RFC.
type group interface {
	// private draws a secret multiplier.
	private(rand io.Reader) ([]byte, error)
	// public is x*G + w*C, C being M for the KDC and N for the client.
	public(x, w []byte, c constant) ([]byte, error)
	// shared is x*(peer - w*C), C being the peer's constant.
	shared(x, w []byte, c constant, peer []byte) ([]byte, error)
}

// constant is one of the two elements whose multiplier is unknown.
type constant int

const (
	constantM constant = iota
	constantN
)

// multiplierLen is the length of w in both groups.
const multiplierLen = 32

var groups = map[messages.SPAKEGroup]group{
	messages.SPAKE_GROUP_EDWARDS25519: newEdwards(),
	messages.SPAKE_GROUP_P256:         p256{},
}

// Groups lists the groups that are supported, the preferred one first. Every implementation has
// edwards25519 (RFC 9588, Section 6).
func Groups() []messages.SPAKEGroup {
	return []messages.SPAKEGroup{messages.SPAKE_GROUP_EDWARDS25519, messages.SPAKE_GROUP_P256}
}

// Supported reports whether this package implements the group.
func Supported(g messages.SPAKEGroup) bool { return groups[g] != nil }

// ErrElement means that a public value is no element of the group, or one that reveals the secret.
var ErrElement = errors.New("SPAKE: the other side's public value is no good element of the group")

// The constants M and N of RFC 9588, Section 12.2, compressed.
const (
	edwardsM = "\xd0\x48\x03\x2c\x6e\xa0\xb6\xd6\x97\xdd\xc2\xe8\x6b\xda\x85\xa3\x3a\xda\xc9\x20\xf1\xbf\x18\xe1\xb0\xc6\xd1\x66\xa5\xce\xcd\xaf"
	edwardsN = "\xd3\xbf\xb5\x18\xf4\x4f\x34\x30\xf2\x9d\x0c\x92\xaf\x50\x38\x65\xa1\xed\x32\x81\xdc\x69\xb3\x5d\xd8\x68\xba\x85\xf8\x86\xc4\xab"
	p256M    = "\x02\x88\x6e\x2f\x97\xac\xe4\x6e\x55\xba\x9d\xd7\x24\x25\x79\xf2\x99\x3b\x64\xe1\x6e\xf3\xdc\xab\x95\xaf\xd4\x97\x33\x3d\x8f\xa1\x2f"
	p256N    = "\x03\xd8\xbb\xd6\xc6\x39\xc6\x29\x37\xb0\x4d\x99\x7f\x38\xc3\x77\x07\x19\xc6\x29\xd7\x01\x4d\x49\xa2\x4b\x4f\x98\xba\xa1\x29\x2b\x49"
)

// edwards is edwards25519: numbers and elements little endian. A private value is the multiplier
// before it is multiplied by the cofactor 8, which keeps elements of small order out of the result.
type edwards struct{ m, n *edwards25519.Point }

func newEdwards() edwards {
	point := func(s string) *edwards25519.Point {
		p, err := new(edwards25519.Point).SetBytes([]byte(s))
		if err != nil {
			panic("spake: a constant is no point: " + err.Error()) // a test holds that it never is
		}
		return p
	}
	return edwards{point(edwardsM), point(edwardsN)}
}

// reduced is a number of at most 64 bytes modulo the group's order.
func reduced(b []byte) *edwards25519.Scalar {
	var wide [64]byte
	copy(wide[:], b)
	scalar, err := edwards25519.NewScalar().SetUniformBytes(wide[:])
	if err != nil {
		panic("spake: " + err.Error()) // it takes any 64 bytes
	}
	return scalar
}

func (e edwards) private(rand io.Reader) ([]byte, error) {
	var wide [64]byte
	if _, err := io.ReadFull(rand, wide[:]); err != nil {
		return nil, fmt.Errorf("reading randomness for SPAKE: %w", err)
	}
	return reduced(wide[:]).Bytes(), nil
}

func (e edwards) blind(w []byte, c constant) *edwards25519.Point {
	base := e.m
	if c == constantN {
		base = e.n
	}
	return new(edwards25519.Point).ScalarMult(reduced(w), base)
}

func (e edwards) public(x, w []byte, c constant) ([]byte, error) {
	p := new(edwards25519.Point).ScalarBaseMult(reduced(x))
	return p.Add(p.MultByCofactor(p), e.blind(w, c)).Bytes(), nil
}

func (e edwards) shared(x, w []byte, c constant, peer []byte) ([]byte, error) {
	p, err := new(edwards25519.Point).SetBytes(peer)
	if err != nil {
		return nil, ErrElement
	}
	p.Subtract(p, e.blind(w, c))
	p.ScalarMult(reduced(x), p.MultByCofactor(p))
	if p.Equal(edwards25519.NewIdentityPoint()) == 1 {
		return nil, ErrElement
	}
	return p.Bytes(), nil
}

// p256 is NIST's P-256: numbers big endian, elements compressed.
type p256 struct{}

// p256ElementLen is the length of a compressed element that is not the point at infinity.
const p256ElementLen = 33

func (p256) private(rand io.Reader) ([]byte, error) {
	x := make([]byte, multiplierLen)
	for {
		if _, err := io.ReadFull(rand, x); err != nil {
			return nil, fmt.Errorf("reading randomness for SPAKE: %w", err)
		}
		if string(x) < p256Order { // else it would not be uniform; one in 2^32
			return x, nil
		}
	}
}

// p256Order is the order of the group (FIPS 186-5, SP 800-186 3.2.1.3).
const p256Order = "\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51"

func (p256) blind(w []byte, c constant) (*nistec.P256Point, error) {
	base := p256M
	if c == constantN {
		base = p256N
	}
	p, err := nistec.NewP256Point().SetBytes([]byte(base))
	if err != nil {
		return nil, err
	}
	return p.ScalarMult(p, w)
}

func (g p256) public(x, w []byte, c constant) ([]byte, error) {
	p, err := nistec.NewP256Point().ScalarBaseMult(x)
	if err != nil {
		return nil, err
	}
	blind, err := g.blind(w, c)
	if err != nil {
		return nil, err
	}
	return p.Add(p, blind).BytesCompressed(), nil
}

func (g p256) shared(x, w []byte, c constant, peer []byte) ([]byte, error) {
	if len(peer) != p256ElementLen {
		return nil, ErrElement
	}
	p, err := nistec.NewP256Point().SetBytes(peer)
	if err != nil {
		return nil, ErrElement
	}
	blind, err := g.blind(w, c)
	if err != nil {
		return nil, err
	}
	p.Add(p, blind.Negate(blind))
	if p, err = p.ScalarMult(p, x); err != nil {
		return nil, err
	}
	result := p.BytesCompressed()
	if len(result) != p256ElementLen {
		return nil, ErrElement
	}
	return result, nil
}
