package accept

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Keys are the keys of an account.
type Keys interface {
	// KeysFor returns the keys with which a ticket for the service may be encrypted, of all types
	// and versions, and none for a service that is not the account's. It is called for every token, by many goroutines at once, and must be fast: the
	// same Key is to be returned again and again.
	KeysFor(service messages.Principal) []*Key
}

// Key is a long-term key made ready to open tickets.
type Key struct {
	key    enctype.Key
	kvno   uint32
	ticket *enctype.Sealer
	id     [sha256.Size]byte // by which its replay cache is found
	opened openTickets
}

// NewKey makes a key ready. Kvno is its version, 0 if that is not known, as of a key that was made
// of a password. It fails if the type cannot be used.
func NewKey(key enctype.Key, kvno uint32) (*Key, error) {
	ticket, err := key.Sealer(enctype.KEY_USAGE_TICKET)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, uint32(key.EType())), key.Bytes()...))
	return &Key{key: key, kvno: kvno, ticket: ticket, id: id}, nil
}

// isVersion reports whether the key may be of a version. Older keytab files hold the low eight bits
// only.
func (k *Key) isVersion(kvno uint32) bool {
	return k.kvno == 0 || k.kvno == kvno || k.kvno == kvno&0xff
}
