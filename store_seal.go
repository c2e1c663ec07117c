package caddynegotiate

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// A stored ticket is
//
//	version    1 octet, storeVersion
//	expiry     8 octets, seconds since 1970, big-endian
//	sealed     nonce, AES-256-GCM ciphertext of negotiate.Ticket.Marshal, tag
//
// and bound to its name and its expiry as associated data, so that whoever can
// write to the storage can delete tickets, but neither swap nor prolong them.
const (
	storeVersion = 1
	storeHeader  = 1 + 8
	maxStored    = 1 << 20 // larger than any ticket; not opened
)

// seal is what one identity's tickets are named and sealed with.
type seal struct {
	identity *negotiate.Identity
	aead     cipher.AEAD
	name     string // in the storage
}

// seal derives the keys (RFC 5869) and the entry's name, which tells who may not
// know the key nothing of whose ticket it is. It is false where there is no key:
// then nothing is stored.
func (s *ticketStore) seal(key cache.Key) (seal, bool) {
	id := s.find(key)
	if id == nil {
		return seal{}, false
	}
	secret, source := s.master, "stated"
	if secret == nil {
		long, ok := id.LongTermKey(parseETypes(key.ETypes))
		if !ok {
			return seal{}, false
		}
		secret, source = long.Bytes(), "keytab"
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "caddy-negotiate ticket store "+source, 64)
	if err != nil {
		return seal{}, false
	}
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		return seal{}, false
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return seal{}, false
	}
	principal := id.Principal()
	mac := hmac.New(sha256.New, derived[32:])
	var options [8]byte
	binary.BigEndian.PutUint32(options[:], uint32(principal.Name.NameType))
	binary.BigEndian.PutUint32(options[4:], key.Options)
	kind, _ := id.Origin()
	for _, part := range []string{
		principal.String(), kind, key.User, key.Realm, key.SPN, key.ETypes, string(options[:]),
	} {
		var length [4]byte
		binary.BigEndian.PutUint32(length[:], uint32(len(part)))
		mac.Write(length[:])
		mac.Write([]byte(part))
	}
	return seal{identity: id, aead: aead, name: storedTickets + hex.EncodeToString(mac.Sum(nil))}, true
}

// parseETypes reads the list of types that a key of the cache bears.
func parseETypes(list string) []enctype.ID {
	var types []enctype.ID
	for name := range strings.FieldsSeq(strings.Trim(list, "[]")) {
		if id, err := enctype.Parse(name); err == nil {
			types = append(types, id)
		}
	}
	return types
}

// associated is what an entry is bound to besides its key.
func (s seal) associated(header []byte) []byte {
	return append([]byte("caddy-negotiate ticket\x00"+s.name+"\x00"), header...)
}

func (s seal) close(t *negotiate.Ticket) ([]byte, error) {
	plain, err := t.Marshal()
	if err != nil {
		return nil, err
	}
	header := binary.BigEndian.AppendUint64([]byte{storeVersion}, uint64(t.Credential().EndTime.Unix()))
	// The nonce is the AEAD's own to draw.
	return s.aead.Seal(header, nil, plain, s.associated(header[:storeHeader:storeHeader])), nil //nolint:gosec // nil stands for a random one
}

// errUnopened is for what is no stored ticket of ours, or none any more.
var errUnopened = errors.New("a stored ticket does not open")

func (s seal) open(b []byte) (*negotiate.Ticket, error) {
	if len(b) < storeHeader || len(b) > maxStored || b[0] != storeVersion {
		return nil, errUnopened
	}
	plain, err := s.aead.Open(nil, nil, b[storeHeader:], s.associated(b[:storeHeader:storeHeader]))
	if err != nil {
		return nil, errUnopened
	}
	return s.identity.Unmarshal(plain)
}

// expired reads the time that stands before what is sealed. Who can write to the
// storage can write that too, and wins a fetch by it.
func expired(b []byte, now time.Time) bool {
	return len(b) >= storeHeader && int64(binary.BigEndian.Uint64(b[1:storeHeader])) <= now.Unix()
}
