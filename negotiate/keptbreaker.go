package negotiate

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// BreakerStore keeps the state of breakers beyond the process, so that neither a restart nor
// another member of a fleet proves refused credentials again. It is safe for concurrent use and
// does not panic; each call returns soon after its context ends, and a storage that fails or
// hangs is reported by the BreakerStore and costs a caller a second at most.
type BreakerStore interface {
	// Load returns what is stored for the principal; nil if there is nothing, or on failure.
	Load(ctx context.Context, p messages.Principal) []byte
	// Save stores the content; it removes the entry if there is none.
	Save(ctx context.Context, p messages.Principal, content []byte)
	// Lock waits until no other process logs in as the principal, until one has changed the
	// entry, or until ctx ends; changed reports the second. unlock is never nil.
	Lock(ctx context.Context, p messages.Principal) (unlock func(), changed bool)
}

const (
	// keptWait bounds how long a login waits for others of the same principal.
	keptWait = 3 * time.Second
	// keptPause is the time from one writing to the next.
	keptPause = time.Second
	// keptSkew is how far the clock of another member may be ahead.
	keptSkew = 5 * time.Minute
	// keptSettle is how long the end of an identity waits for a login under way.
	keptSettle = 250 * time.Millisecond
	// maxKept bounds an entry that is read, in bytes.
	maxKept = 64 << 10
)

// keptBreaker keeps an identity's breaker in a BreakerStore. An entry has the principal's refused
// credentials by their tags: members of a fleet may have different ones for a while. While a member
// logs in it has the entry's lock, so that members that start together send three proofs in all.
type keptBreaker struct {
	store   func() BreakerStore // returns nil if there is none
	breaker *breaker
	ring    *keyring
	now     func() time.Time

	flushed atomic.Bool   // what is stored does not count any more
	busy    chan struct{} // an element while what is below is in use

	tagged  *krb5core.Account // whose tag is known
	tag     string
	known   map[string]keptState // what is stored
	stale   bool                 // something else is, which is of no use
	written time.Time
}

// keptState is what is kept of a breaker.
type keptState struct {
	Proofs  int       `json:"proofs"`         // sent by failed logins
	Refused time.Time `json:"refused"`        // when the last of them failed
	Until   time.Time `json:"until,omitzero"` // the breaker's end; zero if it is closed

	// The refusal that opened it.
	Op     krb5core.Op        `json:"op,omitempty"`
	Code   messages.ErrorCode `json:"code,omitempty"`
	Status messages.NTStatus  `json:"status,omitempty"`
}

// newKeptBreaker returns nil for a source without keys: what is proved with a certificate locks no
// account.
func newKeptBreaker(store func() BreakerStore, b *breaker, source ticketSource) *keptBreaker {
	ring, ok := source.(*keyring)
	if !ok || store == nil || ring.secret.certificate != nil {
		return nil
	}
	return &keptBreaker{store: store, breaker: b, ring: ring, now: b.now, busy: make(chan struct{}, 1)}
}

// begin takes what is stored into account before a login; end is called after it, with the breaker
// in its new state, and does not wait for the storage. rewritten reports whether the file with the
// credential has changed.
func (k *keptBreaker) begin(ctx context.Context, rewritten bool) (end func()) {
	end = func() {}
	if k == nil {
		return end
	}
	store := k.store()
	if store == nil {
		return end
	}
	ctx, cancel := context.WithTimeout(ctx, keptWait)
	defer cancel()
	select {
	case k.busy <- struct{}{}:
	case <-ctx.Done():
		return end
	}
	flushed, before := k.flushed.Swap(false), k.tag
	var unlock func()
	for again := true; again; {
		unlock, again = store.Lock(ctx, k.ring.name)
		k.known = k.load(store)
		if flushed || len(k.known) == 0 {
			continue
		}
		stored, ok := k.known[k.newestTag()]
		// A file that was written again with the same content is to be tried.
		if ok && (!rewritten || k.tag != before) {
			k.breaker.restore(stored, k.ring.name, k.ring.secret.Kind)
		}
		again = again && k.breaker.state() == nil // else all who wait would log in at once
	}
	return func() {
		go func() {
			defer func() { <-k.busy }()
			defer unlock()
			k.save(store, flushed)
		}()
	}
}

// flush has what is stored removed, soon.
func (k *keptBreaker) flush() {
	if k != nil && !k.flushed.Swap(true) {
		go func() { k.begin(context.Background(), false)() }()
	}
}

// settle waits a moment for a login under way to end and to be written.
func (k *keptBreaker) settle() {
	if k == nil {
		return
	}
	timer := time.NewTimer(keptSettle)
	defer timer.Stop()
	select {
	case k.busy <- struct{}{}:
		<-k.busy
	case <-timer.C:
	}
}

// save writes the breaker's state unless it is stored already.
func (k *keptBreaker) save(store BreakerStore, flushed bool) {
	flush := flushed && len(k.known) > 0
	if !flush && !k.stale && !k.changed() {
		return
	}
	time.Sleep(keptPause - time.Since(k.written))
	entry := k.load(store) // the lock may have been another's
	if flushed {
		clear(entry)
	}
	tag := k.newestTag()
	delete(entry, tag)
	if state, ok := k.breaker.kept(); ok {
		entry[tag] = state
	}
	var content []byte
	if len(entry) > 0 {
		content, _ = json.Marshal(entry) // fails for years beyond 9999 only
	}
	k.written = time.Now()
	store.Save(context.Background(), k.ring.name, content)
}

// changed reports whether the breaker's state differs from what was stored before the login.
func (k *keptBreaker) changed() bool {
	state, some := k.breaker.kept()
	if !some && len(k.known) == 0 {
		return false
	}
	stored, ok := k.known[k.newestTag()]
	return some != ok || state != stored
}

// load returns what is stored by tags, without what has ended, is not valid, or would keep a
// breaker open for longer than refusedPause.
func (k *keptBreaker) load(store BreakerStore) map[string]keptState {
	var entry map[string]keptState
	content := store.Load(context.Background(), k.ring.name)
	k.stale = len(content) > 0
	if len(content) > maxKept || json.Unmarshal(content, &entry) != nil || len(entry) == 0 {
		return make(map[string]keptState)
	}
	all, now := len(entry), k.now()
	maps.DeleteFunc(entry, func(tag string, s keptState) bool {
		over := now.Sub(s.Refused) >= refusedPause && !s.Until.After(now)
		valid := len(tag) == 2*tagSize && s.Proofs > 0 && s.Proofs <= exchange.MaxProofs &&
			!s.Refused.After(now.Add(keptSkew)) && !s.Until.After(now.Add(refusedPause+keptSkew))
		return over || !valid
	})
	k.stale = len(entry) < all
	return entry
}

// newestTag returns the tag of the credential that was read last.
func (k *keptBreaker) newestTag() string {
	if account := k.ring.newest(); account != k.tagged {
		k.tagged, k.tag = account, credentialTag(account)
	}
	return k.tag
}

// tagSize is the length of a tag, in bytes. One is enough to notice nearly every change of a
// credential, and too little to confirm a guess of it.
const tagSize = 1

// credentialTag returns what is stored to recognize a credential: a byte of Argon2id of its keys,
// for a password of the key with a salt of our own. There is no key for a digest that all who may
// share the storage have and readers of the storage have not, so that a digest of a password could
// be compared with guesses. Of one byte they learn eight bits at most, whatever they compute, and
// Argon2id (RFC 9106) makes these expensive. The salt is constant, so that no second tag tells more.
// Of 256 changed credentials one is taken for the refused one, for half an hour or until a flush.
func credentialTag(a *krb5core.Account) string {
	const passes, kibibytes, threads = 2, 19 << 10, 1
	salt := "caddy-negotiate breaker " + a.Principal().String()
	digest := argon2.IDKey(a.KeyMaterial(salt), []byte(salt), passes, kibibytes, threads, 4)
	return hex.EncodeToString(digest[:tagSize])
}

// kept returns what is to be kept of the breaker; false if no failed login sent a proof. What
// another breaker opened (of armor) is not kept, nor the short pause after an outage.
func (b *breaker) kept() (keptState, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgive()
	if b.spent == 0 {
		return keptState{}, false
	}
	s := keptState{Proofs: min(b.spent, exchange.MaxProofs), Refused: b.refused.UTC().Truncate(time.Second)}
	if b.open != nil && b.open.by == b && b.now().Before(b.open.Until) {
		if e, ok := errors.AsType[*krb5core.Error](b.open.Err); ok && e.Refused {
			s.Until, s.Op, s.Code, s.Status = b.open.Until.UTC().Truncate(time.Second), e.Op, e.Code, e.Status
		}
	}
	return s, true
}

// restore adds what was kept of the breaker of a principal with a credential of this kind.
func (b *breaker) restore(s keptState, p messages.Principal, kind SecretKind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	b.forgive()
	b.spent = max(b.spent, s.Proofs)
	if s.Refused.After(b.refused) {
		b.refused = earlier(s.Refused, now)
	}
	if s.Until.After(now) {
		b.open = &RefusedError{by: b, Until: earlier(s.Until, now.Add(refusedPause)), Err: &LoginError{Kind: kind, Err: &krb5core.Error{
			Op: s.Op, Code: s.Code, Status: s.Status, Refused: true, Confirmed: true, Realm: p.Realm, Client: p.String(),
			Err: fmt.Errorf("%v, before this process started or at another that shares its storage", s.Code),
		}}}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
