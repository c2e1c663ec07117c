package krb5core

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// KeytabKeys returns the keys of one principal of a keytab. A principal of type NT-ENTERPRISE,
// whose canonical name only the KDC knows, takes those of the only principal in the file.
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
	shown := principals[:min(len(principals), most)]
	texts := make([]string, 0, len(shown))
	for _, p := range shown {
		texts = append(texts, p.String())
	}
	text := strings.Join(texts, ", ")
	if more := len(principals) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return cmp.Or(text, "none")
}

type keytabKeys struct {
	file      *keytab.Keytab
	principal messages.Principal
}

// ETypes lists the usable encryption types of the keytab, the newest keys first.
func (k keytabKeys) ETypes() []enctype.ID {
	types := []enctype.ID{} // not nil, which means any
	for _, e := range k.file.Keys(k.principal) {
		if id := e.Key.EType(); id.Supported() && !slices.Contains(types, id) {
			types = append(types, id)
		}
	}
	return types
}

// Key returns the key of the requested type and version, the newest for version 0. The salt does
// not matter: the key is already derived.
func (k keytabKeys) Key(info exchange.KeyInfo) (enctype.Key, error) {
	if key, ok := k.file.Key(k.principal, info.EType, info.KVNO); ok {
		return key, nil
	}
	if info.KVNO != 0 {
		return enctype.Key{}, fmt.Errorf("%w: the keytab has no %s key of version %d", exchange.ErrNoKey, info.EType, info.KVNO)
	}
	return enctype.Key{}, fmt.Errorf("%w: the keytab has no %s key", exchange.ErrNoKey, info.EType)
}

// PasswordKeys derives keys from a password. read is called once for each salt that a key is
// derived with; the password itself is not kept.
func PasswordKeys(read func() (string, error)) exchange.KeySource {
	return &passwordKeys{read: read, derived: make(map[derivation]enctype.Key)}
}

// maxPasswordKeys bounds the derived keys: salt and parameters come from the network.
const maxPasswordKeys = 16

type derivation struct {
	etype        enctype.ID
	salt, params string
}

type passwordKeys struct {
	read    func() (string, error)
	mu      sync.Mutex
	derived map[derivation]enctype.Key
}

// ETypes is nil: a password has keys of any type.
func (p *passwordKeys) ETypes() []enctype.ID { return nil }

// Key is string-to-key with the KDC's salt and parameters (RFC 3961, Section 3).
func (p *passwordKeys) Key(info exchange.KeyInfo) (enctype.Key, error) {
	d := derivation{info.EType, info.Salt, string(info.Params)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if key, ok := p.derived[d]; ok {
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
	if len(p.derived) >= maxPasswordKeys {
		clear(p.derived)
	}
	p.derived[d] = key
	return key, nil
}

// material is the newest keys of all types, in order of the types.
func (k keytabKeys) material(string) (all []byte) {
	for _, id := range slices.Sorted(slices.Values(k.ETypes())) {
		if key, ok := k.file.Key(k.principal, id, 0); ok {
			all = append(all, key.Bytes()...)
		}
	}
	return all
}

// material is a key with the salt, which is not listed as held.
func (p *passwordKeys) material(salt string) []byte {
	password, err := p.read()
	if err != nil {
		return nil
	}
	id := enctype.AES256_CTS_HMAC_SHA1_96
	if id.Check() != nil { // where FIPS 140 is enforced
		id = enctype.AES256_CTS_HMAC_SHA384_192
	}
	key, err := enctype.StringToKey(id, password, salt, nil)
	if err != nil {
		return nil
	}
	return key.Bytes()
}

// HeldKey is what may be shown of a long-term key.
type HeldKey struct {
	EType enctype.ID
	// KVNO is the key's version, 0 for a key derived from a password: only the KDC knows its
	// version.
	KVNO uint32
}

func (k keytabKeys) held() []HeldKey {
	entries := k.file.Keys(k.principal)
	all := make([]HeldKey, len(entries))
	for i, e := range entries {
		all[i] = HeldKey{e.Key.EType(), e.KVNO}
	}
	return all
}

func (p *passwordKeys) held() []HeldKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []HeldKey
	for of := range p.derived {
		if key := (HeldKey{EType: of.etype}); !slices.Contains(all, key) {
			all = append(all, key)
		}
	}
	slices.SortFunc(all, func(a, b HeldKey) int { return cmp.Compare(b.EType, a.EType) })
	return all
}
