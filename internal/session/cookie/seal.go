package cookie

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"strings"
)

// A cookie's value is, in base64 (RFC 4648, Section 5, without padding):
//
//	version    1 byte
//	key        8 bytes, which of the master keys
//	salt       16 bytes, from which and the master key the cookie's own key is derived
//	sealed     nonce, AES-256-GCM ciphertext of the content, tag
//
// Version, key, salt, site and block are the associated data of the seal.
const (
	version    = 1
	saltSize   = 16
	headerSize = 1 + len(KeyID{}) + saltSize
	overhead   = headerSize + 12 + 16
)

// MaxSize is the longest name and value of a cookie, in bytes: browsers keep 4096 with what is
// between them.
const MaxSize = 4000

var encoding = base64.RawURLEncoding.Strict()

// Place is where a cookie is good.
type Place struct {
	Host  string            // of the site
	Block [sha256.Size]byte // a hash of the block of the configuration
}

// associated is the associated data of a seal.
func (p Place) associated(header []byte) []byte {
	b := append(make([]byte, 0, 128), "caddy-negotiate session\x00"...)
	b = append(b, header...)
	b = append(b, p.Block[:]...)
	return append(b, p.Host...)
}

// aead returns the cipher of the cookies with a salt.
func (k *Key) aead(salt []byte) cipher.AEAD {
	key, _ := hkdf.Key(sha256.New, k.Key, salt, "caddy-negotiate session cookie", 32) // fails for lengths beyond 8 KiB only
	block, _ := aes.NewCipher(key)                                                    // fails for other sizes only
	aead, _ := cipher.NewGCMWithRandomNonce(block)                                    // fails for other ciphers only
	return aead
}

// ErrTooLong is returned for a content that makes a cookie longer than MaxSize.
var ErrTooLong = errors.New("the cookie would be too long")

// Seal returns the value of a cookie of a name with a content. rand is the source of the salt.
func (k *Key) Seal(rand io.Reader, name string, p Place, c *Content) (string, error) {
	content := c.marshal()
	if len(name)+len("=")+encoding.EncodedLen(overhead+len(content)) > MaxSize {
		return "", ErrTooLong
	}
	b := make([]byte, headerSize, overhead+len(content))
	b[0] = version
	copy(b[1:], k.ID[:])
	salt := b[1+len(k.ID) : headerSize]
	if _, err := io.ReadFull(rand, salt); err != nil {
		return "", err
	}
	aad := p.associated(b[:headerSize])
	return encoding.EncodeToString(k.aead(salt).Seal(b, nil, content, aad)), nil //nolint:gosec // with a nil nonce the AEAD draws a random one
}

// Sealed is a cookie's value that has not been opened.
type Sealed struct {
	Key KeyID // that opens it
	b   []byte
}

// Parse reads a cookie's value. It returns false for one that Seal has not made.
func Parse(value string) (s Sealed, ok bool) {
	if len(value) > MaxSize || strings.ContainsAny(value, "\r\n") { // which base64 ignores
		return s, false
	}
	b, err := encoding.DecodeString(value)
	if err != nil || len(b) < overhead || b[0] != version {
		return s, false
	}
	s.b = b
	copy(s.Key[:], b[1:])
	return s, true
}

// Open returns the content of a cookie that was sealed with the key for the place.
func (k *Key) Open(p Place, s Sealed) (*Content, error) {
	header := s.b[:headerSize]
	plain, err := k.aead(header[1+len(k.ID):]).Open(nil, nil, s.b[headerSize:], p.associated(header))
	if err != nil {
		return nil, err
	}
	return unmarshal(plain)
}
