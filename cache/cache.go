package cache

import (
	"context"
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// What a Config stands for where it is silent.
const (
	DefaultMemory    = 256 << 20
	DefaultMargin    = 30 * time.Second
	DefaultTimeout   = 10 * time.Second
	DefaultFetches   = 64
	DefaultRefreshes = 8

	slack = 144 // of an entry: its share of the tables, and what the allocator rounds up

	storeTimeout = time.Second // for one Load or Save, see Store
	storeSaves   = 16          // saves at a time; more are left out
)

// ErrClosed is what a fetch ends with once the cache is closed.
var ErrClosed = errors.New("ticket cache is closed")

// Config is what a Cache is made of. The zero Config is good.
type Config struct {
	// Memory is the most that all entries may take together, in bytes:
	// values, keys, remembered failures and the cache's own structures.
	// Zero means DefaultMemory.
	Memory int64
	// Margin is how long before its end a value is served no more. Of a
	// short life it is a tenth at most. Zero means DefaultMargin, negative
	// none.
	Margin time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Rand gives numbers in [0,1) for the jitter of refreshes and the draw of
	// evictions; nil means math/rand/v2. Now and Rand are called from many
	// goroutines.
	Rand func() float64
	// Remember says how long the n-th failure in a row for one key is served
	// without another attempt; 0 means not at all. Nil asks the error, see
	// Rememberer.
	Remember func(err error, n int) time.Duration
	// Fetches bounds the fetches that run at a time; more wait their turn,
	// within their own timeout. A fetch inside another does not count.
	Fetches int
	// Refreshes bounds the background refreshes that run at a time; more are
	// put off to a later use.
	Refreshes int
	// Observe, if set, hears of every fetch that ended. It must not block and
	// must not call the cache.
	Observe func(Event)
}

// Event reports a fetch that ended.
type Event struct {
	Key    Key
	Reason Reason
	Source Source // Fetched or Stored
	Err    error
	Took   time.Duration
}

// A Cache holds values of one type. See the package's introduction. All methods
// are safe for concurrent use.
type Cache[V Value] struct {
	// Read by every Get, hardly ever written.
	seed  maphash.Seed
	cfg   Config
	birth time.Time
	table table[V]
	epoch atomic.Uint64 // counts insertions: the clock of the LRU order
	_     [64]byte      // keeps writers' state off the readers' cache line

	base   context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup
	fetch  chan struct{} // slots
	renew  chan struct{}
	save   chan struct{}
	weight int64 // of an entry without key and value, in bytes

	mu        sync.Mutex
	closed    bool
	store     Store[V]
	flushed   time.Time // stored values older than this are not taken
	flights   map[Key]*flight[V]
	values    pool[V]
	negatives pool[V]
	stats     Stats
}

// New makes a Cache.
func New[V Value](cfg Config) *Cache[V] {
	if cfg.Memory <= 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.Margin == 0 {
		cfg.Margin = DefaultMargin
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	if cfg.Remember == nil {
		cfg.Remember = askError
	}
	if cfg.Fetches <= 0 {
		cfg.Fetches = DefaultFetches
	}
	if cfg.Refreshes <= 0 {
		cfg.Refreshes = DefaultRefreshes
	}
	base, cancel := context.WithCancel(context.Background())
	return &Cache[V]{
		seed:    maphash.MakeSeed(),
		cfg:     cfg,
		birth:   cfg.Now(),
		table:   newTable[V](cfg.Memory),
		base:    base,
		cancel:  cancel,
		fetch:   make(chan struct{}, cfg.Fetches),
		renew:   make(chan struct{}, cfg.Refreshes),
		save:    make(chan struct{}, storeSaves),
		weight:  int64(reflect.TypeFor[entry[V]]().Size()+reflect.TypeFor[held[V]]().Size()) + slack,
		flights: make(map[Key]*flight[V]),
	}
}

// instant is one reading of the clock. Values end by the wall clock, as the KDC
// wrote it; pauses run by the steady one, which no correction of the time moves.
type instant struct {
	wall   int64 // nanoseconds since 1970
	steady int64 // nanoseconds since the cache was made
}

func (c *Cache[V]) now() instant {
	t := c.cfg.Now()
	return instant{wall: t.UnixNano(), steady: int64(t.Sub(c.birth))}
}

func (c *Cache[V]) find(key Key) *entry[V] {
	return c.table.find(maphash.Comparable(c.seed, key), key)
}

// Get returns the value held for key, if it can be used and nothing needs to be
// done about it. It is the hot read. False means: call Fetch, which may still
// answer at once (with a value whose refresh it starts, or a remembered
// failure).
func (c *Cache[V]) Get(key Key) (V, bool) {
	if e := c.find(key); e != nil {
		h, now := e.held.Load(), c.now()
		if h.usable(now) && now.steady < h.due.Load() {
			c.touch(e, h)
			return h.value, true
		}
	}
	var zero V
	return zero, false
}

// touch notes a use. Nobody writes while nothing is inserted, except for the
// count of uses, which is exact up to a thousand and then counted by a draw, so
// that cores which all use one entry do not fight over its cache line.
func (c *Cache[V]) touch(e *entry[V], h *held[V]) {
	if now := c.epoch.Load(); e.touched.Load() != now {
		e.touched.Store(now)
	}
	const exact, step = 1000, 64
	if h.uses.Load() < exact {
		h.uses.Add(1)
	} else if rand.Uint32()%step == 0 {
		h.uses.Add(step)
	}
}

// Put inserts a value that came without being asked for, such as a cross-realm
// ticket won on the way. It replaces what is held for key.
func (c *Cache[V]) Put(key Key, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.install(key, value, c.now())
	}
}

// Remeasure reads the size of the value held for key again, after it grew.
func (c *Cache[V]) Remeasure(key Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.find(key); e != nil {
		if h := e.held.Load(); h.err == nil {
			c.values.reweigh(e, c.weight+e.key.size()+h.value.Size())
			c.enforce(e)
		}
	}
}

// SetMemory changes the budget of all entries, in bytes; what is over it goes at
// once. Zero means DefaultMemory.
func (c *Cache[V]) SetMemory(bytes int64) {
	if bytes <= 0 {
		bytes = DefaultMemory
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cfg.Memory = bytes
	c.enforce(nil)
}

// Close ends all fetches, waits until they have ended and forgets everything.
// Values that callers hold stay good.
func (c *Cache[V]) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.work.Wait()
	c.Drop(func(Key) bool { return true })
}
