package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
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
	headerSize = 1 + len(keyID{}) + saltSize
	overhead   = headerSize + 12 + 16
)

// maxCookie is the longest name and value of a cookie, in bytes: browsers keep 4096 with what is
// between them.
const maxCookie = 4000

var encoding = base64.RawURLEncoding.Strict()

// place is where a cookie is good: the site's host and a hash of the block.
type place struct {
	host  string
	block [sha256.Size]byte
}

// associated is the associated data of a seal.
func (p place) associated(header []byte) []byte {
	b := append(make([]byte, 0, 128), "caddy-negotiate session\x00"...)
	b = append(b, header...)
	b = append(b, p.block[:]...)
	return append(b, p.host...)
}

// aead returns the cipher of the cookies with a salt.
func (k *masterKey) aead(salt []byte) cipher.AEAD {
	key, _ := hkdf.Key(sha256.New, k.key, salt, "caddy-negotiate session cookie", 32) // fails for lengths beyond 8 KiB only
	block, _ := aes.NewCipher(key)                                                    // fails for other sizes only
	aead, _ := cipher.NewGCMWithRandomNonce(block)                                    // fails for other ciphers only
	return aead
}

// seal returns the value of a cookie with a content.
func (k *masterKey) seal(rand io.Reader, p place, content []byte) (string, error) {
	b := make([]byte, headerSize, overhead+len(content))
	b[0] = version
	copy(b[1:], k.id[:])
	salt := b[1+len(k.id) : headerSize]
	if _, err := io.ReadFull(rand, salt); err != nil {
		return "", err
	}
	aad := p.associated(b[:headerSize])
	return encoding.EncodeToString(k.aead(salt).Seal(b, nil, content, aad)), nil //nolint:gosec // with a nil nonce the AEAD draws a random one
}

// sealedBy returns the sealed bytes of a cookie's value and the master key that they need. It
// returns false for a value that this package did not make.
func sealedBy(value string) (b []byte, id keyID, ok bool) {
	if len(value) > maxCookie || strings.ContainsAny(value, "\r\n") { // which base64 ignores
		return nil, id, false
	}
	b, err := encoding.DecodeString(value)
	if err != nil || len(b) < overhead || b[0] != version {
		return nil, id, false
	}
	copy(id[:], b[1:])
	return b, id, true
}

// open returns the content of what seal has sealed for the place.
func (k *masterKey) open(p place, b []byte) (*content, error) {
	header := b[:headerSize]
	plain, err := k.aead(header[1+len(k.id):]).Open(nil, nil, b[headerSize:], p.associated(header))
	if err != nil {
		return nil, err
	}
	return unmarshal(plain)
}
