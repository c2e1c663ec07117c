package enctype

import (
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

// Key is a protocol key (RFC 3961 section 2): an encryption type and a secret.
// The zero Key is no key. It is immutable, safe for concurrent use, and its
// copies share the secret. No verb of fmt and no encoder shows the secret.
type Key struct {
	_ [0]func() // not comparable with ==: use Equal
	s *secret   // behind a pointer: fmt does not follow it within other structs
}

type secret struct {
	id    ID
	bytes []byte
}

// NewKey returns the key with these octets, which it copies. A key of a type
// that is not implemented, or not approved, can be held and written again, but
// every use of it fails.
func NewKey(id ID, octets []byte) (Key, error) {
	if size := id.KeySize(); size != 0 && len(octets) != size {
		return Key{}, fmt.Errorf("a key of type %s has %d octets, not %d", id, size, len(octets))
	}
	return Key{s: &secret{id, append([]byte(nil), octets...)}}, nil
}

// GenerateKey returns a new key made from rand.
func GenerateKey(id ID, rand io.Reader) (Key, error) { panic("x") }

// StringToKey x
func StringToKey(id ID, password, salt string, params []byte) (Key, error) { panic("x") }

// EType returns the key's encryption type, 0 for the zero Key.
func (k Key) EType() ID { return k.s.id }

// Bytes returns the key's octets, which must not be modified.
func (k Key) Bytes() []byte { return k.s.bytes }

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k.s == nil }

// Equal x
func (k Key) Equal(other Key) bool { panic("x") }

// Encrypt x
func (k Key) Encrypt(rand io.Reader, usage Usage, plaintext []byte) ([]byte, error) { panic("x") }

// Decrypt x
func (k Key) Decrypt(usage Usage, ciphertext []byte) ([]byte, error) { panic("x") }

// Checksum x
func (k Key) Checksum(usage Usage, data []byte) ([]byte, error) { panic("x") }

// ChecksumType x
func (k Key) ChecksumType() ChecksumType { panic("x") }

// VerifyChecksum x
func (k Key) VerifyChecksum(t ChecksumType, usage Usage, data, sum []byte) error { panic("x") }

// HMACMD5 x
func HMACMD5(k Key, usage Usage, data []byte) ([]byte, error) { panic("x") }

// Digest computes an unkeyed checksum.
func Digest(t ChecksumType, data []byte) ([]byte, error) { panic("x") }

// PRF x
func PRF(k Key, data []byte) ([]byte, error) { panic("x") }

// PRFPlus x
func PRFPlus(k Key, data []byte, n int) ([]byte, error) { panic("x") }

// CF2 x
func CF2(k1, k2 Key, pepper1, pepper2 string) (Key, error) { panic("x") }

// Sealer x
type Sealer struct{}

// Sealer x
func (k Key) Sealer(usage Usage) (*Sealer, error) { panic("x") }

// ConfounderSize x
func (s *Sealer) ConfounderSize() int { panic("x") }

// Overhead x
func (s *Sealer) Overhead(n int) (header, trailer int) { panic("x") }

// Seal x
func (s *Sealer) Seal(dst, confounder, plaintext []byte) []byte { panic("x") }

// Open x
func (s *Sealer) Open(dst, ciphertext []byte) ([]byte, error) { panic("x") }
