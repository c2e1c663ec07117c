package krb5core

import (
	"fmt"
	"slices"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// KeytabKeys gives the keys of one principal of a keytab. A principal of type
// NT-ENTERPRISE, whose canonical name only the KDC knows, takes those of the
// file's sole principal.
func KeytabKeys(file *keytab.Keytab, principal messages.Principal) (exchange.KeySource, error) {
	if len(file.Keys(principal)) == 0 && principal.Name.NameType == messages.KRB_NT_ENTERPRISE {
		if all := file.Principals(); len(all) == 1 {
			principal = all[0]
		}
	}
	if len(file.Keys(principal)) == 0 {
		return nil, fmt.Errorf("no key for %s: the keytab holds %s", principal, names(file.Principals()))
	}
	return keytabKeys{file, principal}, nil
}

func names(principals []messages.Principal) string {
	const most = 5
	text := ""
	for i, p := range principals {
		switch {
		case i == most:
			return fmt.Sprintf("%s and %d more", text, len(principals)-most)
		case i > 0:
			text += ", "
		}
		text += p.String()
	}
	if text == "" {
		return "none"
	}
	return text
}

type keytabKeys struct {
	file      *keytab.Keytab
	principal messages.Principal
}

// ETypes lists the usable encryption types, those of the newest keys first.
func (k keytabKeys) ETypes() []enctype.ID {
	types := []enctype.ID{} // not nil, which means any
	for _, e := range k.file.Keys(k.principal) {
		if id := e.Key.EType(); id.Supported() && !slices.Contains(types, id) {
			types = append(types, id)
		}
	}
	return types
}

// Key gives the key of the asked type and version, the newest if no version is
// asked for. The salt does not matter: it went into the key when it was made.
func (k keytabKeys) Key(info exchange.KeyInfo) (enctype.Key, error) {
	if key, ok := k.file.Key(k.principal, info.EType, info.KVNO); ok {
		return key, nil
	}
	if info.KVNO != 0 {
		return enctype.Key{}, fmt.Errorf("%w: the keytab has no %s key of version %d", exchange.ErrNoKey, info.EType, info.KVNO)
	}
	return enctype.Key{}, fmt.Errorf("%w: the keytab has no %s key", exchange.ErrNoKey, info.EType)
}

// PasswordKeys makes keys of a password. read gives the password when a key for
// a salt is made for the first time, and is not asked for the same key again; the
// password itself is not kept.
func PasswordKeys(read func() (string, error)) exchange.KeySource {
	return &passwordKeys{read: read, made: make(map[keyOf]enctype.Key)}
}

// maxPasswordKeys bounds the memory of keys: salt and parameters come from the
// network.
const maxPasswordKeys = 16

type keyOf struct {
	etype        enctype.ID
	salt, params string
}

type passwordKeys struct {
	read func() (string, error)
	mu   sync.Mutex
	made map[keyOf]enctype.Key
}

// ETypes is nil: a password makes keys of any type.
func (p *passwordKeys) ETypes() []enctype.ID { return nil }

// Key is string-to-key with the KDC's salt and parameters (RFC 3961 3).
func (p *passwordKeys) Key(info exchange.KeyInfo) (enctype.Key, error) {
	of := keyOf{info.EType, info.Salt, string(info.Params)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if key, ok := p.made[of]; ok {
		return key, nil
	}
	password, err := p.read()
	if err != nil {
		return enctype.Key{}, err
	}
	key, err := enctype.StringToKey(info.EType, password, info.Salt, info.Params)
	if err != nil {
		return enctype.Key{}, err
	}
	if len(p.made) >= maxPasswordKeys {
		clear(p.made)
	}
	p.made[of] = key
	return key, nil
}
