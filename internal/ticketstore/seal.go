package ticketstore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// A stored ticket is
//
//	version    1 byte
//	expiry     8 bytes, seconds since 1970, big-endian
//	sealed     nonce, AES-256-GCM ciphertext of negotiate.Ticket.Marshal, tag
//
// Its name in the storage, version and expiry are the associated data of the seal.
const (
	version    = 1
	headerSize = 1 + 8
	maxStored  = 1 << 20 // larger than any ticket; not opened
)

// ParseKey reads a configured key: 32 bytes in base64, of either alphabet.
func ParseKey(text string) ([]byte, error) {
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := encoding.DecodeString(strings.TrimSpace(text)); err == nil && len(key) == 32 {
			return key, nil
		}
	}
	return nil, errors.New("the key is not 32 bytes in base64; create one with: openssl rand -base64 32")
}

// entry is the name of one ticket in the storage, and what it is sealed with.
type entry struct {
	identity *negotiate.Identity
	key      cache.Key
	aead     cipher.AEAD
	name     string
}

// entry derives the sealing key and the name of a ticket. Without the key the name does
// not tell whose ticket it is. It returns false if there is no key to derive from: then
// the ticket is not stored.
func (s *Store) entry(key cache.Key) (entry, bool) {
	id := s.cfg.Find(key)
	if id == nil {
		return entry{}, false
	}
	kind, _ := id.Origin()
	if kind == negotiate.KindPlatform {
		return entry{}, false // its tickets are the operating system's
	}
	// The principal of the key, not the identity's present one: a credential cache may have
	// got another in between.
	principal, ok := id.PrincipalOf(key)
	if !ok {
		return entry{}, false
	}
	secret, source := s.cfg.Key, "configured"
	if secret == nil {
		long, ok := id.LongTermKey(negotiate.KeyETypes(key))
		if !ok {
			return entry{}, false
		}
		secret, source = long.Bytes(), "keytab"
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "caddy-negotiate ticket store "+source, 64)
	if err != nil {
		return entry{}, false
	}
	block, _ := aes.NewCipher(derived[:32])        // fails for other sizes only
	aead, _ := cipher.NewGCMWithRandomNonce(block) // fails for other ciphers only
	mac := hmac.New(sha256.New, derived[32:])
	mac.Write(identify(principal, kind, key))
	return entry{identity: id, key: key, aead: aead, name: prefix + hex.EncodeToString(mac.Sum(nil))}, true
}

// identify is an unambiguous encoding of the account and the key, equal in all processes.
func identify(principal messages.Principal, kind negotiate.SecretKind, key cache.Key) []byte {
	var b []byte
	for _, part := range []string{principal.String(), string(kind)} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(principal.Name.NameType))
	return key.Append(b)
}

// seal returns what is stored of a ticket.
func (e entry) seal(t *negotiate.Ticket) ([]byte, error) {
	plain, err := t.Marshal()
	if err != nil {
		return nil, err
	}
	header := binary.BigEndian.AppendUint64([]byte{version}, uint64(t.Credential().EndTime.Unix()))
	return e.aead.Seal(header, nil, plain, e.associated(header[:headerSize:headerSize])), nil //nolint:gosec // with a nil nonce the AEAD draws a random one
}

var (
	errUnopened = errors.New("the stored ticket cannot be opened")
	errForeign  = errors.New("the stored ticket is another principal's")
)

// open returns the ticket that was stored.
func (e entry) open(b []byte) (*negotiate.Ticket, error) {
	if len(b) < headerSize || len(b) > maxStored || b[0] != version {
		return nil, errUnopened
	}
	plain, err := e.aead.Open(nil, nil, b[headerSize:], e.associated(b[:headerSize:headerSize]))
	if err != nil {
		return nil, errUnopened
	}
	t, err := e.identity.Unmarshal(plain)
	if err == nil && !e.identity.Belongs(e.key, t) {
		return nil, errForeign
	}
	return t, err
}

// associated is the associated data of the seal.
func (e entry) associated(header []byte) []byte {
	return append([]byte("caddy-negotiate ticket\x00"+e.name+"\x00"), header...)
}

// expired reads the expiry without opening the ticket. Who can write to the storage can
// change it, which costs one fetch.
func expired(b []byte, now time.Time) bool {
	return len(b) >= headerSize && int64(binary.BigEndian.Uint64(b[1:headerSize])) <= now.Unix()
}
