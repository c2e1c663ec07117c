package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/internal/session/cookie"
	"github.com/caddy-negotiate/caddy-negotiate/internal/ticketstore"
)

const (
	// A master key seals cookies for rotateAfter, and opens them until the last one has ended.
	// The hour is for clocks that differ in a fleet.
	rotateAfter = 30 * 24 * time.Hour
	forgetAfter = rotateAfter + maxDuration + time.Hour
	// lookPause is how often the storage is asked for a key that is not known: anyone can make
	// cookies of unknown keys.
	lookPause = 10 * time.Second
	// lookTimeout is how long a request waits for that.
	lookTimeout = 2 * time.Second
)

// Keys are the master keys of a configuration, which are kept in Caddy's storage. They are safe for
// concurrent use.
type Keys struct {
	shared *ticketstore.Shared
	now    func() time.Time
	rand   io.Reader

	known atomic.Pointer[[]*cookie.Key] // the newest last; nil until they are loaded

	mu     sync.Mutex // held while the storage is asked
	looked time.Time  // when it was asked for an unknown key
}

// NewKeys returns the master keys in a storage, sealed with the key of `ticket_store storage KEY` if
// there is one. The storage is asked when they are needed.
func NewKeys(storage certmagic.Storage, key []byte, logger *zap.Logger) *Keys {
	const warning = "Caddy's storage cannot be used; users sign in with their tickets until it works again, and not by the cookies of sessions"
	return &Keys{shared: ticketstore.NewShared(storage, key, "sessions", warning, logger), now: time.Now, rand: rand.Reader}
}

// held are the keys that are loaded.
func (k *Keys) held() []*cookie.Key {
	if known := k.known.Load(); known != nil {
		return *known
	}
	return nil
}

// errNoKey is for a storage that failed to keep what was stored.
var errNoKey = errors.New("the storage has no master key")

// sealing returns the key for new cookies, and makes it if it is due.
func (k *Keys) sealing(ctx context.Context) (*cookie.Key, error) {
	if newest := k.newest(); newest != nil {
		return newest, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if newest := k.newest(); newest != nil { // another request has made it
		return newest, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var made error
	content, err := k.shared.Update(ctx, func(content []byte) []byte {
		keys := k.current(cookie.ParseKeys(content))
		if n := len(keys); n > 0 && !k.due(keys[n-1]) {
			return nil // another process has made it
		}
		var next *cookie.Key
		if next, made = k.newKey(); made != nil {
			return nil
		}
		return cookie.AppendKeys(nil, append(keys, next))
	})
	if err = cmp.Or(err, made); err != nil {
		return nil, err
	}
	k.set(content)
	if newest := k.newest(); newest != nil {
		return newest, nil
	}
	return nil, errNoKey
}

// opening returns the key of a cookie; nil if there is none.
func (k *Keys) opening(ctx context.Context, id cookie.KeyID) *cookie.Key {
	if key := k.find(id); key != nil {
		return key
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if key := k.find(id); key != nil || now.Sub(k.looked).Abs() < lookPause {
		return key
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	content, err := k.shared.Load(ctx)
	if err == nil {
		k.looked = now
		k.set(content)
	}
	return k.find(id)
}

func (k *Keys) set(content []byte) {
	keys := k.current(cookie.ParseKeys(content))
	k.known.Store(&keys)
}

// newest returns the newest key, nil if another one is due.
func (k *Keys) newest() *cookie.Key {
	keys := k.held()
	if n := len(keys); n > 0 && !k.due(keys[n-1]) {
		return keys[n-1]
	}
	return nil
}

func (k *Keys) find(id cookie.KeyID) *cookie.Key {
	for _, key := range k.held() {
		if key.ID == id && !k.over(key) {
			return key
		}
	}
	return nil
}

func (k *Keys) due(key *cookie.Key) bool { return k.now().Sub(key.Made) >= rotateAfter }

// over reports whether no cookie of the key can be good. One from the future is from a clock that
// was wrong, and would never be replaced.
func (k *Keys) over(key *cookie.Key) bool {
	age := k.now().Sub(key.Made)
	return age >= forgetAfter || age <= -rotateAfter
}

// current returns the keys that can still open a cookie.
func (k *Keys) current(keys []*cookie.Key) []*cookie.Key { return slices.DeleteFunc(keys, k.over) }

func (k *Keys) newKey() (*cookie.Key, error) {
	b := make([]byte, len(cookie.KeyID{})+cookie.KeySize)
	if _, err := io.ReadFull(k.rand, b); err != nil {
		return nil, err
	}
	key := &cookie.Key{Made: k.now(), Key: b[len(cookie.KeyID{}):]}
	copy(key.ID[:], b)
	return key, nil
}
