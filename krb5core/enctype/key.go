package enctype

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
)

// Errors that callers branch on.
var (
	// ErrIntegrity means that a ciphertext or checksum was not made with this
	// key and usage, or was changed on its way.
	ErrIntegrity = errors.New("integrity check failed")
	// ErrUnsupported means that the encryption or checksum type is not
	// implemented, or not for this key.
	ErrUnsupported = errors.New("not supported")
	// ErrNotApproved means that FIPS 140 is enforced and forbids the type.
	ErrNotApproved = errors.New("not approved under FIPS 140")
	// ErrParams means that string-to-key parameters are malformed or ask for a
	// number of iterations out of bounds.
	ErrParams = errors.New("string-to-key parameters refused")
)

var errNoKey = errors.New("no key: the zero enctype.Key cannot be used")

// Key is a protocol key (RFC 3961, Section 2): an encryption type and a secret.
// The zero Key is no key. A Key is immutable, safe for concurrent use, and its
// copies share the secret. No verb of fmt and no encoder shows the secret.
type Key struct {
	_ [0]func() // not comparable with ==: use Equal
	s *secret
}

// secret is behind a pointer, and the bytes in it behind another one, because
// fmt calls no methods of unexported fields of other structs: it prints what is
// there, and with an unfit verb follows one pointer, but not two.
type secret struct {
	id  ID
	raw *[]byte
}

// kept is a slice and the bytes that it is of, as one object on the heap: servers
// hold very many keys.
type kept struct {
	raw []byte
	buf [32]byte // no type that is implemented has more
}

// newKey returns the key with a copy of these bytes.
func newKey(id ID, raw []byte) Key {
	k := new(kept)
	k.raw = append(k.buf[:0], raw...)
	return Key{s: &secret{id, &k.raw}}
}

// NewKey returns the key with these bytes, which it copies. For a type that is
// implemented their number must be its KeySize. A key of a type that is not, or
// that is not approved, can be held and written again, but every use of it fails.
func NewKey(id ID, raw []byte) (Key, error) {
	if size := id.KeySize(); size != 0 && len(raw) != size {
		return Key{}, fmt.Errorf("a key of type %s has %d bytes, not %d", id, size, len(raw))
	}
	return newKey(id, raw), nil
}

// GenerateKey returns a new key made of bytes read from rand.
func GenerateKey(id ID, rand io.Reader) (Key, error) {
	p, err := id.profile()
	if err != nil {
		return Key{}, err
	}
	seed := make([]byte, p.seedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return Key{}, fmt.Errorf("reading randomness for a key: %w", err)
	}
	return newKey(id, p.randomToKey(seed)), nil
}

// KeyFromSeed returns the key that seed, bytes as good as random, becomes (RFC 3961, Section 3,
// random-to-key). The seed has SeedSize bytes.
func KeyFromSeed(id ID, seed []byte) (Key, error) {
	p, err := id.profile()
	if err != nil {
		return Key{}, err
	}
	if len(seed) != p.seedSize {
		return Key{}, fmt.Errorf("a key of type %s is made of %d bytes, not %d", id, p.seedSize, len(seed))
	}
	return newKey(id, p.randomToKey(seed)), nil
}

// EType returns the key's encryption type, 0 for the zero Key.
func (k Key) EType() ID {
	if k.s == nil {
		return 0
	}
	return k.s.id
}

// Bytes returns the key's bytes, without a copy: they must not be modified.
func (k Key) Bytes() []byte {
	if k.s == nil {
		return nil
	}
	return *k.s.raw
}

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k.s == nil }

// Equal reports whether both keys have the same type and bytes, in a time that
// does not depend on the bytes.
func (k Key) Equal(other Key) bool {
	return k.IsZero() == other.IsZero() && k.EType() == other.EType() &&
		subtle.ConstantTimeCompare(k.Bytes(), other.Bytes()) == 1
}

// profile returns the row of the key's type, or why the key cannot be used.
func (k Key) profile() (*profile, error) {
	if k.s == nil {
		return nil, errNoKey
	}
	return k.s.id.profile()
}

// Encrypt returns plaintext encrypted for usage (RFC 3961, Section 3, encrypt
// with the default cipher state), with a confounder read from rand.
func (k Key) Encrypt(rand io.Reader, usage Usage, plaintext []byte) ([]byte, error) {
	s, err := k.Sealer(usage)
	if err != nil {
		return nil, err
	}
	confounder := make([]byte, s.ConfounderSize())
	if _, err := io.ReadFull(rand, confounder); err != nil {
		return nil, fmt.Errorf("reading randomness for a confounder: %w", err)
	}
	return s.Seal(nil, confounder, plaintext), nil
}

// Decrypt returns the plaintext of ciphertext, or ErrIntegrity. The DES types
// leave their padding, up to 7 zero bytes, at the end of it. With RC4 and usage 9
// usage 8 is tried too, which some peers use as RFC 4757 prints it.
func (k Key) Decrypt(usage Usage, ciphertext []byte) ([]byte, error) {
	s, err := k.Sealer(usage)
	if err != nil {
		return nil, err
	}
	return s.Open(nil, ciphertext)
}

func (k Key) String() string {
	if k.s == nil {
		return "no key"
	}
	return "key of type " + k.s.id.String()
}

// Format prints String whatever the verb and flags: %x and %#v show no secret either.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalText is String, for encoders of JSON, XML and logs.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }
