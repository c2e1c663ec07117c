package krb5core

import (
	"cmp"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// HeldKey is what may be told of a long-term key.
type HeldKey struct {
	EType enctype.ID
	// KVNO is the key's version, 0 for a key that was made of a password: only
	// the KDC knows of which version that is.
	KVNO uint32
}

// HeldKeys lists the keys that the account has, the newest version first. Of a
// password there are those that KDCs have asked for by now. It is empty for an
// account without keys of its own.
func (a *Account) HeldKeys() []HeldKey {
	if keys, ok := a.keys.(interface{ held() []HeldKey }); ok {
		return keys.held()
	}
	return nil
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
	for of := range p.made {
		if key := (HeldKey{EType: of.etype}); !slices.Contains(all, key) {
			all = append(all, key)
		}
	}
	slices.SortFunc(all, func(a, b HeldKey) int { return cmp.Compare(b.EType, a.EType) })
	return all
}
