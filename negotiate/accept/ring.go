package accept

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// LongTermKey is a key that tickets for a principal are encrypted with.
type LongTermKey struct {
	Principal messages.Principal
	Key       enctype.Key
	KVNO      uint32 // 0 if it is not known
}

// RetiredKeyLife is how long a key that was replaced opens tickets. KDCs issued tickets under it
// until then; they last ten hours in Active Directory and a day at most elsewhere, unless the realm
// was configured otherwise.
const RetiredKeyLife = 24 * time.Hour

// mostRetired bounds the keys that are kept although they were replaced, in case they are replaced
// all the time. The oldest is dropped first.
const mostRetired = 64

// Ring holds the keys of an account, those that were replaced lately too. It is safe for concurrent
// use. The zero Ring is empty.
type Ring struct {
	mu   sync.Mutex
	held atomic.Pointer[[]*ringKey] // the newest first, the retired ones last
}

type ringKey struct {
	*Key
	principal messages.Principal
	retired   time.Time // zero for a key that is in use
}

// Replace makes these keys, the newest first, the ones in use. It reports whether a key is among
// them that was not held before. Keys of types that cannot be used are left out.
func (r *Ring) Replace(keys []LongTermKey, now time.Time) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.all()
	var after []*ringKey
	for _, k := range keys {
		key, err := NewKey(k.Key, k.KVNO)
		if err != nil {
			continue
		}
		same := func(old *ringKey) bool {
			return old.id == key.id && old.kvno == key.kvno && old.principal.Equal(k.Principal)
		}
		if slices.ContainsFunc(after, same) {
			continue
		}
		if i := slices.IndexFunc(before, same); i >= 0 {
			key = before[i].Key // with the tickets that it has opened
		} else {
			changed = true
		}
		after = append(after, &ringKey{Key: key, principal: k.Principal})
	}
	after = append(after, retire(before, after, now)...)
	r.held.Store(&after)
	return changed
}

// retire returns those of the old keys that are not in use any more and not too old.
func retire(old, used []*ringKey, now time.Time) (retired []*ringKey) {
	for _, k := range old {
		if slices.ContainsFunc(used, func(u *ringKey) bool { return u.Key == k.Key }) {
			continue
		}
		if k.retired.IsZero() {
			k = &ringKey{k.Key, k.principal, now}
		}
		if now.Sub(k.retired) < RetiredKeyLife {
			retired = append(retired, k)
		}
	}
	slices.SortStableFunc(retired, func(a, b *ringKey) int { return b.retired.Compare(a.retired) })
	return retired[:min(len(retired), mostRetired)]
}

// Forget drops the keys that were replaced.
func (r *Ring) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	used := slices.DeleteFunc(slices.Clone(r.all()), func(k *ringKey) bool { return !k.retired.IsZero() })
	r.held.Store(&used)
}

// KeysFor returns the keys of a principal, compared without regard to case as Active Directory
// does: those in use, and those that were replaced less than RetiredKeyLife before now.
func (r *Ring) KeysFor(principal messages.Principal, now time.Time) (keys []*Key) {
	for _, k := range r.all() {
		if (k.retired.IsZero() || now.Sub(k.retired) < RetiredKeyLife) && foldEqual(k.principal, principal) {
			keys = append(keys, k.Key)
		}
	}
	return keys
}

// Principals lists the principals that have a key in use, each once.
func (r *Ring) Principals() (all []messages.Principal) {
	for _, k := range r.all() {
		if k.retired.IsZero() && !slices.ContainsFunc(all, k.principal.Equal) {
			all = append(all, k.principal)
		}
	}
	return all
}

func (r *Ring) all() []*ringKey {
	if held := r.held.Load(); held != nil {
		return *held
	}
	return nil
}

func foldEqual(a, b messages.Principal) bool {
	return strings.EqualFold(a.Realm, b.Realm) && slices.EqualFunc(a.Name.NameString, b.Name.NameString, strings.EqualFold)
}
