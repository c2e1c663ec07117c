// Package candidate seals the next password of an account while it is being changed.
//
// Between the request for a change and its reply, either of two passwords may be the account's: after
// a crash or a lost reply nothing but a login tells which. So the next one, the candidate, is on
// disk, beside the file of the present secret, before the KDC hears of it. It is sealed with a key
// that is derived from the present secret: who cannot read the one learns nothing from the other, and
// a candidate that no longer belongs to the file cannot be opened. Members of a fleet pass it on in
// Caddy's storage, sealed with the key of the ticket store.
//
// Left out: everything about files and logins. Begin with Seal and Open.
package candidate

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"time"
)

// Candidate is a password that may have become an account's.
type Candidate struct {
	Password string    `json:"password"`
	Made     time.Time `json:"made"` // when it was chosen
}

// String keeps %+v and the like from showing the password.
func (Candidate) String() string { return "candidate" }

// GoString is for %#v.
func (c Candidate) GoString() string { return c.String() }

// MaxSize bounds what is sealed, in bytes.
const MaxSize = 64 << 10

// Path is where the candidate of a secret in this file is.
func Path(secret string) string { return secret + ".next" }

// A sealed candidate is
//
//	magic    8 bytes
//	salt     32 bytes
//	sealed   nonce, AES-256-GCM ciphertext of the candidate in JSON, tag
//
// The key is derived by HKDF-SHA-256 (RFC 5869) from the secret and the salt; its info is the magic and the principal. Magic
// and salt are the associated data.
const (
	magic    = "CNCAND\x00\x01"
	saltSize = 32
	overhead = len(magic) + saltSize
)

// ErrNotOpened is returned for what was not sealed with this secret for this principal.
var ErrNotOpened = errors.New("the candidate cannot be opened: it was sealed with another secret, or changed")

// Seal seals a candidate of the principal with a key derived from secret, which must be as good as a key.
func Seal(c Candidate, secret []byte, principal string) ([]byte, error) {
	sealed := append([]byte(magic), make([]byte, saltSize)...)
	_, _ = rand.Read(sealed[len(magic):]) // never fails
	aead, err := newAEAD(secret, sealed, principal)
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(c) //nolint:gosec // what is sealed next
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return aead.Seal(sealed, nil, plain, sealed[:overhead:overhead]), nil //nolint:gosec // with a nil nonce the AEAD draws a random one
}

// Open opens what Seal returned.
func Open(sealed, secret []byte, principal string) (Candidate, error) {
	if len(sealed) < overhead || len(sealed) > MaxSize || !bytes.HasPrefix(sealed, []byte(magic)) {
		return Candidate{}, ErrNotOpened
	}
	header := sealed[:overhead:overhead]
	aead, err := newAEAD(secret, header, principal)
	if err != nil {
		return Candidate{}, err
	}
	plain, err := aead.Open(nil, nil, sealed[overhead:], header)
	if err != nil {
		return Candidate{}, ErrNotOpened
	}
	defer clear(plain)
	var c Candidate
	if json.Unmarshal(plain, &c) != nil || c.Password == "" {
		return Candidate{}, ErrNotOpened
	}
	return c, nil
}

func newAEAD(secret, header []byte, principal string) (cipher.AEAD, error) {
	if len(secret) == 0 {
		return nil, errors.New("there is no secret to seal the candidate with")
	}
	key, err := hkdf.Key(sha256.New, secret, header[len(magic):], magic+principal, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
