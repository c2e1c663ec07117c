package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

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

// masterKey is a key of the storage, from which the keys of cookies are derived.
type masterKey struct {
	id   keyID
	made time.Time
	key  []byte // masterSize bytes
}

type keyID [8]byte

const masterSize = 32

// The stored form of the master keys, of one after the other:
//
//	id      8 bytes
//	made    8 bytes, seconds since 1970, big-endian
//	key     32 bytes
const storedSize = len(keyID{}) + 8 + masterSize

func appendKeys(b []byte, keys []*masterKey) []byte {
	for _, k := range keys {
		b = append(b, k.id[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(k.made.Unix()))
		b = append(b, k.key...)
	}
	return b
}

// parseKeys returns the keys, the newest last. An unfinished one at the end is left out.
func parseKeys(b []byte) (keys []*masterKey) {
	for stored := range slices.Chunk(b, storedSize) {
		if len(stored) < storedSize {
			break
		}
		k := &masterKey{made: time.Unix(int64(binary.BigEndian.Uint64(stored[len(keyID{}):])), 0), key: stored[len(keyID{})+8:]}
		copy(k.id[:], stored)
		keys = append(keys, k)
	}
	slices.SortStableFunc(keys, func(a, b *masterKey) int { return cmp.Compare(a.made.Unix(), b.made.Unix()) })
	return keys
}

// Keys are the master keys of a configuration, which are kept in Caddy's storage. They are safe for
// concurrent use.
type Keys struct {
	shared *ticketstore.Shared
	now    func() time.Time
	rand   io.Reader

	known atomic.Pointer[[]*masterKey] // the newest last; nil until they are loaded

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
func (k *Keys) held() []*masterKey {
	if known := k.known.Load(); known != nil {
		return *known
	}
	return nil
}

// errNoKey is for a storage that failed to keep what was stored.
var errNoKey = errors.New("the storage has no master key")

// sealing returns the key for new cookies, and makes it if it is due.
func (k *Keys) sealing(ctx context.Context) (*masterKey, error) {
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
		keys := k.current(parseKeys(content))
		if n := len(keys); n > 0 && !k.due(keys[n-1]) {
			return nil // another process has made it
		}
		var next *masterKey
		if next, made = k.newKey(); made != nil {
			return nil
		}
		return appendKeys(nil, append(keys, next))
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
func (k *Keys) opening(ctx context.Context, id keyID) *masterKey {
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
	keys := k.current(parseKeys(content))
	k.known.Store(&keys)
}

// newest returns the newest key, nil if another one is due.
func (k *Keys) newest() *masterKey {
	keys := k.held()
	if n := len(keys); n > 0 && !k.due(keys[n-1]) {
		return keys[n-1]
	}
	return nil
}

func (k *Keys) find(id keyID) *masterKey {
	for _, key := range k.held() {
		if key.id == id && !k.over(key) {
			return key
		}
	}
	return nil
}

func (k *Keys) due(key *masterKey) bool { return k.now().Sub(key.made) >= rotateAfter }

// over reports whether no cookie of the key can be good. One from the future is from a clock that
// was wrong, and would never be replaced.
func (k *Keys) over(key *masterKey) bool {
	age := k.now().Sub(key.made)
	return age >= forgetAfter || age <= -rotateAfter
}

// current returns the keys that can still open a cookie.
func (k *Keys) current(keys []*masterKey) []*masterKey { return slices.DeleteFunc(keys, k.over) }

func (k *Keys) newKey() (*masterKey, error) {
	b := make([]byte, len(keyID{})+masterSize)
	if _, err := io.ReadFull(k.rand, b); err != nil {
		return nil, err
	}
	key := &masterKey{made: k.now(), key: b[len(keyID{}):]}
	copy(key.id[:], b)
	return key, nil
}
