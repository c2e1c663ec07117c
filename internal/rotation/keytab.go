package rotation

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// How long replaced keys stay in a keytab, and how many versions at most. Tickets that were issued
// before a change are encrypted with them; none lasts longer than a week by any KDC's default.
const (
	keepKeys    = 7 * 24 * time.Hour
	maxVersions = 16
)

// newKeys are the keys of a new password.
type newKeys struct {
	password string
	info     exchange.KeyInfo // of the key that has logged in; version 0: one more than the keytab's newest
}

// keytab returns the principal's keytab with the new keys beside the old ones.
func (k newKeys) keytab(path string, principal messages.Principal, now time.Time) ([]byte, error) {
	file, err := negotiate.ReadKeytab(path)
	if err != nil {
		return nil, err
	}
	held := file.Keys(owner(file, principal))
	if len(held) == 0 {
		return nil, errors.New("the keytab has no key of the account any more")
	}
	kvno := cmp.Or(k.info.KVNO, held[0].KVNO+1)
	fresh, err := k.like(held)
	if err != nil {
		return nil, err
	}
	written := now.Truncate(time.Second)
	names := sharing(file, held)
	var next keytab.Keytab
	for _, e := range file.Entries {
		if !slices.ContainsFunc(names, e.Principal.Equal) || e.KVNO != kvno && !outdated(file, e, written) {
			next.Entries = append(next.Entries, e)
		}
	}
	for _, name := range names {
		for _, key := range fresh {
			next.Entries = append(next.Entries, keytab.Entry{Principal: name, Timestamp: written, KVNO: kvno, Key: key})
		}
	}
	return next.Marshal()
}

// like makes keys of the types that the newest version of the held ones has.
func (k newKeys) like(held []keytab.Entry) (keys []enctype.Key, err error) {
	for _, e := range held {
		id := e.Key.EType()
		had := func(key enctype.Key) bool { return key.EType() == id }
		if e.KVNO != held[0].KVNO || !id.Supported() || slices.ContainsFunc(keys, had) {
			continue
		}
		var params []byte
		if id == k.info.EType {
			params = k.info.Params
		}
		key, err := enctype.StringToKey(id, k.password, k.info.Salt, params)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// owner is the principal that the account's keys are under: of a UPN the only one.
func owner(file *keytab.Keytab, account messages.Principal) messages.Principal {
	if all := file.Principals(); len(file.Keys(account)) == 0 && len(all) == 1 {
		return all[0]
	}
	return account
}

// sharing lists the principals of a keytab that have the account's newest keys: in Active Directory all
// names of an account.
func sharing(file *keytab.Keytab, held []keytab.Entry) []messages.Principal {
	var names []messages.Principal
	for _, name := range file.Principals() {
		if name.Equal(held[0].Principal) || slices.ContainsFunc(file.Keys(name), func(e keytab.Entry) bool {
			return e.KVNO == held[0].KVNO && e.Key.Equal(held[0].Key)
		}) {
			names = append(names, name)
		}
	}
	return names
}

// outdated reports whether an entry's version was replaced so long ago that no ticket has it.
func outdated(file *keytab.Keytab, e keytab.Entry, now time.Time) bool {
	var replaced time.Time // when the next version was written
	newer := make(map[uint32]bool)
	for _, other := range file.Keys(e.Principal) { // the newest first
		if other.KVNO == e.KVNO {
			break
		}
		replaced = other.Timestamp
		newer[other.KVNO] = true
	}
	return len(newer) >= maxVersions-1 || len(newer) > 0 && !replaced.IsZero() && now.Sub(replaced) > keepKeys
}
