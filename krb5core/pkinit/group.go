package pkinit

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/bigmod"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// A Group is one that Diffie-Hellman keys are agreed in.
type Group struct {
	name     string
	weak     bool
	id       messages.AlgorithmIdentifier // with its parameters
	generate func(io.Reader) (*KeyPair, error)
}

// KeyPair is a Diffie-Hellman key for one exchange.
type KeyPair struct {
	// Public is the value to send.
	Public messages.SubjectPublicKeyInfo
	// Shared returns the secret that is shared with the holder of the other public value, the
	// content of its subjectPublicKey.
	Shared func(other []byte) ([]byte, error)
}

// groups are in order of preference: MODP groups 14 and 16 (RFC 3526), the curves (RFC 5349), and
// MODP group 2 (RFC 2409, Section 6.2), which KDCs of old domains have alone.
var groups = []*Group{
	modp("MODP group 14", modp14, false),
	modp("MODP group 16", modp16, false),
	curve("P-256", ecdh.P256(), oidP256),
	curve("P-384", ecdh.P384(), oidP384),
	modp("MODP group 2", modp2, true),
}

// DefaultGroup is MODP group 14: all KDCs but some that are configured otherwise accept it, and
// those name their groups.
func DefaultGroup() *Group { return groups[0] }

// Groups lists the groups, the weak one last.
func Groups() []*Group { return slices.Clone(groups) }

// Demanded returns the first of the groups that a KDC names that is supported; a weak one only if
// that is allowed.
func Demanded(list messages.TDDHParameters, weak bool) (*Group, error) {
	refused := false
	for _, id := range list {
		for _, g := range groups {
			if !g.is(id) {
				continue
			}
			if !g.weak || weak {
				return g, nil
			}
			refused = true
		}
	}
	if refused {
		return nil, ErrWeakGroup
	}
	return nil, errNoGroup
}

// Reasons why there is no group.
var (
	ErrWeakGroup = errors.New("the KDC accepts no Diffie-Hellman group but MODP group 2 (1024 bits), which is weak: " +
		"configure it for group 14, or set allow_weak_crypto")
	errNoGroup = errors.New("the KDC names no Diffie-Hellman group that is supported: MODP 14 and 16, P-256, P-384")
)

// is reports whether an AlgorithmIdentifier is the group's. Of a MODP group p and g count: some
// KDCs leave out q.
func (g *Group) is(id messages.AlgorithmIdentifier) bool {
	if !bytes.Equal(id.Algorithm, g.id.Algorithm) {
		return false
	}
	if string(id.Algorithm) == oidECPublicKey {
		return bytes.Equal(id.Parameters, g.id.Parameters)
	}
	var theirs, ours [2][]byte
	return readPG(id.Parameters, &theirs) && readPG(g.id.Parameters, &ours) &&
		bytes.Equal(theirs[0], ours[0]) && bytes.Equal(theirs[1], ours[1])
}

// readPG reads the first two of DomainParameters, in DER.
func readPG(parameters []byte, pg *[2][]byte) bool {
	s := der.String(parameters)
	var content der.String
	return s.ReadASN1(&content, der.TagSequence) && der.ReadRaw(&content, &pg[0]) && der.ReadRaw(&content, &pg[1])
}

func (g *Group) String() string { return g.name }

// ID is how a KDC names the group.
func (g *Group) ID() messages.AlgorithmIdentifier { return g.id }

// Generate returns a new key pair.
func (g *Group) Generate(rand io.Reader) (*KeyPair, error) { return g.generate(rand) }

// errPublicValue is for a value of the KDC that no honest one sends.
var errPublicValue = errors.New("the Diffie-Hellman value is out of range")

// exponentSize is the length of a private exponent in bytes, well above twice the strength of the
// largest group (RFC 3526, Section 8).
const exponentSize = 64

// modp is a group of the integers modulo a safe prime, with the generator 2.
//
//	DomainParameters ::= SEQUENCE {
//	        p       INTEGER, -- odd prime, p=jq +1
//	        g       INTEGER, -- generator, g
//	        q       INTEGER, -- factor of p-1
//	        j       INTEGER OPTIONAL, -- subgroup factor, j>= 2
//	        validationParms  ValidationParms OPTIONAL }
//
// (RFC 3279, Section 2.3.3)
func modp(name, prime string, weak bool) *Group {
	p, err := hex.DecodeString(prime)
	if err != nil {
		panic(err)
	}
	q := make([]byte, len(p)) // (p-1)/2, which is p shifted by a bit
	for i := range p {
		if q[i] = p[i] >> 1; i > 0 {
			q[i] |= p[i-1] << 7
		}
	}
	parameters := der.Append(nil, der.TagSequence, func(dst []byte) []byte {
		dst = appendInteger(dst, p)
		dst = appendInteger(dst, []byte{2})
		return appendInteger(dst, q)
	})
	id := messages.AlgorithmIdentifier{Algorithm: []byte(oidDHPublicNumber), Parameters: parameters}
	return &Group{name: name, weak: weak, id: id, generate: func(rand io.Reader) (*KeyPair, error) {
		return generateMODP(rand, id, p)
	}}
}

func generateMODP(rand io.Reader, id messages.AlgorithmIdentifier, p []byte) (*KeyPair, error) {
	x := make([]byte, exponentSize)
	if _, err := io.ReadFull(rand, x); err != nil {
		return nil, fmt.Errorf("making a Diffie-Hellman key: %w", err)
	}
	m, err := bigmod.NewModulus(p)
	if err != nil {
		return nil, err
	}
	two := make([]byte, len(p))
	two[len(p)-1] = 2
	g, err := bigmod.NewNat().SetBytes(two, m)
	if err != nil {
		return nil, err
	}
	public := bigmod.NewNat().Exp(g, x, m).Bytes(m)
	return &KeyPair{
		Public: messages.SubjectPublicKeyInfo{Algorithm: id, SubjectPublicKey: appendInteger(nil, public)},
		Shared: func(other []byte) ([]byte, error) { return sharedMODP(m, x, other) },
	}, nil
}

// sharedMODP is as long as the modulus (RFC 4556, Section 3.2.3.1).
func sharedMODP(m *bigmod.Modulus, x, other []byte) ([]byte, error) {
	s := der.String(other)
	var value []byte
	if !s.ReadASN1Integer(&value) || !s.Empty() || len(value) > m.Size() {
		return nil, errPublicValue
	}
	y, err := bigmod.NewNat().SetBytes(append(make([]byte, m.Size()-len(value)), value...), m)
	if err != nil || y.IsZero()|y.IsOne()|y.IsMinusOne(m) != 0 {
		return nil, errPublicValue
	}
	return bigmod.NewNat().Exp(y, x, m).Bytes(m), nil
}

// appendInteger appends an INTEGER that is not negative.
func appendInteger(dst, v []byte) []byte {
	v = bytes.TrimLeft(v, "\x00")
	if len(v) == 0 || v[0] >= 0x80 {
		v = append([]byte{0}, v...)
	}
	return der.AppendBytes(dst, der.TagInteger, v)
}

// curve is a group of points, whose secret is the x coordinate (RFC 5349, Section 4).
func curve(name string, c ecdh.Curve, oid string) *Group {
	id := messages.AlgorithmIdentifier{Algorithm: []byte(oidECPublicKey), Parameters: der.AppendOID(nil, []byte(oid))}
	return &Group{name: name, id: id, generate: func(rand io.Reader) (*KeyPair, error) {
		key, err := c.GenerateKey(rand)
		if err != nil {
			return nil, fmt.Errorf("making a Diffie-Hellman key: %w", err)
		}
		return &KeyPair{
			Public: messages.SubjectPublicKeyInfo{Algorithm: id, SubjectPublicKey: key.PublicKey().Bytes()},
			Shared: func(other []byte) ([]byte, error) {
				public, err := c.NewPublicKey(other)
				if err != nil {
					return nil, errPublicValue
				}
				return key.ECDH(public)
			},
		}, nil
	}}
}

// The primes, in hexadecimal.
const (
	modp2 = "" +
		"ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd" +
		"ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed" +
		"ee386bfb5a899fa5ae9f24117c4b1fe649286651ece65381ffffffffffffffff"

	modp14 = "" +
		"ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd" +
		"ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed" +
		"ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f" +
		"83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b" +
		"e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa0510" +
		"15728e5a8aacaa68ffffffffffffffff"

	modp16 = "" +
		"ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd" +
		"ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed" +
		"ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f" +
		"83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b" +
		"e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa0510" +
		"15728e5a8aaac42dad33170d04507a33a85521abdf1cba64ecfb850458dbef0a8aea71575d060c7db3970f85a6e1e4c7" +
		"abf5ae8cdb0933d71e8c94e04a25619dcee3d2261ad2ee6bf12ffa06d98a0864d87602733ec86a64521f2b18177b200c" +
		"bbe117577a615d6c770988c0bad946e208e24fa074e5ab3143db5bfce0fd108e4b82d120a92108011a723c12a787e6d7" +
		"88719a10bdba5b2699c327186af4e23c1a946834b6150bda2583e9ca2ad44ce8dbbbc2db04de8ef92e8efc141fbecaa6" +
		"287c59474e6bc05d99b2964fa090c3a2233ba186515be7ed1f612970cee2d7afb81bdd762170481cd0069127d5b05aa9" +
		"93b4ea988d8fddc186ffb7dc90a6c08f4df435c934063199ffffffffffffffff"
)
