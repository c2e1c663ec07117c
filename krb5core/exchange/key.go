package exchange

import (
	"errors"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// ErrNoKey is wrapped by a KeySource that holds no key of the type or version asked for.
var ErrNoKey = errors.New("no such key")

// KeySource yields the client's long-term keys: a keytab, or a password.
type KeySource interface {
	// ETypes lists the types for which there are keys, nil if there can be one of any type (a password).
	ETypes() []enctype.ID
	// Key returns the key that info describes. ErrNoKey makes the machine look for another type.
	Key(info KeyInfo) (enctype.Key, error)
}

// KeyInfo describes a long-term key as the KDC does.
type KeyInfo struct {
	EType   enctype.ID
	Salt    string // always set: the default salt of RFC 4120 4 if the KDC named none
	HasSalt bool   // the KDC named the salt
	Params  []byte // string-to-key parameters, nil for the type's default
	KVNO    uint32 // key version, 0 for the newest
}
