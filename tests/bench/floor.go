package bench

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"hash"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// floor measures the minimum cost of a token with the standard library's primitives:
// HMAC-SHA1 over the authenticator, AES-256-CBC and base64. It leaves out everything
// that makes a token valid: unique time, changing fields, ciphertext stealing.
type floor struct {
	plain  []byte // confounder and authenticator, padded to whole blocks
	cbc    cipher.BlockMode
	setIV  interface{ SetIV(iv []byte) }
	iv     [aes.BlockSize]byte
	mac    hash.Hash
	sum    [sha1.Size]byte
	subkey [32]byte

	prefix  []byte // of the token, up to the ciphertext
	header  []byte // scheme and base64 of prefix, cut at three bytes
	restLen int    // of prefix after the last whole base64 group
	tail    []byte
	token   []byte
	out     []byte
	value   string
}

// newFloor returns a floor with the sizes of one of the plugin's headers.
func newFloor(header string) (*floor, error) {
	scheme, text, _ := strings.Cut(header, " ")
	token, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	cipherLen, err := authenticatorLen(token)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return nil, err
	}
	f := &floor{mac: hmac.New(sha1.New, make([]byte, 32))}
	f.cbc = cipher.NewCBCEncrypter(block, f.iv[:])
	var ok bool
	if f.setIV, ok = f.cbc.(interface{ SetIV(iv []byte) }); !ok {
		return nil, errors.New("crypto/cipher: CBC mode has no SetIV")
	}
	plainLen := cipherLen - 12
	f.plain = make([]byte, (plainLen+aes.BlockSize-1)/aes.BlockSize*aes.BlockSize)
	f.prefix = token[:len(token)-cipherLen]
	cut := len(f.prefix) - len(f.prefix)%3
	f.header = append([]byte(scheme+" "), text[:cut/3*4]...)
	f.restLen = len(f.prefix) - cut
	f.tail = make([]byte, f.restLen+len(f.plain)+12)
	f.token = make([]byte, len(f.prefix)+len(f.plain)+12)
	f.out = make([]byte, len(f.header)+base64.StdEncoding.EncodedLen(max(len(f.tail), len(f.token))))
	copy(f.out, f.header)
	return f, nil
}

// authenticatorLen returns the length of a token's last field, the authenticator's
// ciphertext.
func authenticatorLen(token []byte) (int, error) {
	init, err := spnego.ParseInit(token)
	if err != nil {
		return 0, err
	}
	framed, err := gss.ParseToken(init.MechToken)
	if err != nil {
		return 0, err
	}
	request, err := messages.ParseAPReq(framed.Body)
	if err != nil {
		return 0, err
	}
	return len(request.Authenticator.Cipher), nil
}

func (f *floor) seal(dst []byte) {
	f.mac.Reset()
	f.mac.Write(f.plain)
	sum := f.mac.Sum(f.sum[:0])
	f.setIV.SetIV(f.iv[:])
	f.cbc.CryptBlocks(dst[:len(f.plain)], f.plain)
	copy(dst[len(f.plain):], sum[:12])
}

// whole builds, encrypts and encodes the whole token.
func (f *floor) whole() error {
	copy(f.token, f.prefix)
	f.seal(f.token[len(f.prefix):])
	base64.StdEncoding.Encode(f.out, f.token)
	return nil
}

// end encrypts and encodes only the tail: the base64 of the prefix is kept.
func (f *floor) end() error {
	f.seal(f.tail[f.restLen:])
	base64.StdEncoding.Encode(f.out[len(f.header):], f.tail)
	return nil
}

// full is like end, with a random subkey, and makes the header a string.
func (f *floor) full() error {
	if _, err := rand.Read(f.subkey[:]); err != nil {
		return err
	}
	copy(f.plain[len(f.plain)-len(f.subkey):], f.subkey[:])
	f.seal(f.tail[f.restLen:])
	n := base64.StdEncoding.EncodedLen(len(f.tail))
	base64.StdEncoding.Encode(f.out[len(f.header):], f.tail)
	f.value = string(f.out[:len(f.header)+n])
	return nil
}
