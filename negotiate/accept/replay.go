package accept

import (
	"crypto/sha256"
	"math"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// ReplayMemory is what the replay cache of one key takes at most in the process's own Replays, in
// bytes.
const ReplayMemory = 64 << 20

// process is what acceptors use unless their configuration says otherwise. The process has not
// started later than this.
var process = newProcessReplays(time.Now())

func newProcessReplays(start time.Time) *Replays {
	r := NewReplays(ReplayMemory, start)
	r.age = func() time.Duration { return time.Since(start) }
	return r
}

// Replays remembers the authenticators that were accepted, for each key on its own, until they are
// too old to be accepted in any case (RFC 4120, Section 3.2.3). It is safe for concurrent use.
type Replays struct {
	memory int
	start  time.Time
	// age is how long ago the start was, which setting the clock does not change: one that was ahead at
	// the start would refuse all clients until that time. It is nil if start is fixed.
	age func() time.Duration

	mu     sync.Mutex
	caches map[[sha256.Size]byte]*replayCache
}

// NewReplays returns an empty one. Memory bounds the cache of each key, in bytes. Authenticators
// made before start are refused, because nothing is known of them; the zero time refuses none. One
// that was used before start by a client whose clock is ahead can be dated later: it is good once
// more.
func NewReplays(memory int, start time.Time) *Replays {
	return &Replays{memory: memory, start: start, caches: make(map[[sha256.Size]byte]*replayCache)}
}

// of returns the cache of a key. Caches stay, whatever becomes of the key: what was accepted under
// it must not be forgotten. A new one has the others drop what is too old, because nothing comes to
// that of a key which was replaced.
func (r *Replays) of(k *Key, now time.Time, skew time.Duration) *replayCache {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.caches[k.id]
	if c == nil {
		for _, other := range r.caches {
			other.clean(now, skew)
		}
		c = &replayCache{most: r.memory / replayEntry, started: r.started}
		r.caches[k.id] = c
	}
	return c
}

// started returns the start by the present clock.
func (r *Replays) started(now time.Time) time.Time {
	if r.age == nil {
		return r.start
	}
	return now.Add(-r.age())
}

// replayEntry is what an entry takes of a map at most, in bytes: the hash and a byte of control, in
// a table that is at least 7/16 full.
const replayEntry = 40

// replayCache holds hashes of authenticators by the minute in which they can be forgotten.
type replayCache struct {
	mu      sync.Mutex
	most    int // entries
	started func(now time.Time) time.Time
	since   time.Time // older authenticators may have been seen and forgotten
	entries int
	minutes map[int64]map[[replayHash]byte]struct{}
	next    int64 // the minute before which there is nothing to forget
}

const replayHash = 16

// authenticatorHash identifies an authenticator under its session key.
func authenticatorHash(session enctype.Key, plain []byte) (hash [replayHash]byte) {
	h := sha256.New()
	h.Write(session.Bytes())
	h.Write(plain)
	var sum [sha256.Size]byte
	copy(hash[:], h.Sum(sum[:0]))
	return hash
}

// add remembers an authenticator of a time and returns 0, or why it must be refused.
func (c *replayCache) add(hash [replayHash]byte, made, now time.Time, skew time.Duration) Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(now, skew)
	if made.Before(c.since) || made.Before(c.started(now)) {
		return BeforeStart
	}
	// It is acceptable until the skew has passed. The minute after that one has begun is late
	// enough.
	minute := minuteOf(made.Add(skew)) + 1
	seen := c.minutes[minute]
	if _, again := seen[hash]; again {
		return Replay
	}
	if c.entries >= c.most {
		return ReplaysFull
	}
	if seen == nil {
		if c.minutes == nil {
			c.minutes = make(map[int64]map[[replayHash]byte]struct{})
		}
		seen = make(map[[replayHash]byte]struct{})
		c.minutes[minute] = seen
		c.next = min(c.next, minute)
	}
	seen[hash] = struct{}{}
	c.entries++
	return 0
}

// clean forgets in a cache that others use.
func (c *replayCache) clean(now time.Time, skew time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(now, skew)
}

// forget drops the minutes that have passed. What was made then is refused from now on, should the
// clock be set back.
func (c *replayCache) forget(now time.Time, skew time.Duration) {
	current := minuteOf(now)
	if current < c.next {
		return
	}
	c.next = math.MaxInt64
	for minute, entries := range c.minutes {
		if minute > current {
			c.next = min(c.next, minute)
			continue
		}
		c.entries -= len(entries)
		delete(c.minutes, minute)
		if passed := time.Unix(minute*60, 0).Add(-skew); passed.After(c.since) {
			c.since = passed
		}
	}
}

func minuteOf(t time.Time) int64 { return int64(math.Floor(float64(t.Unix()) / 60)) }
