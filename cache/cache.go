package cache

import (
	"hash/maphash"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// DefaultMemory is the memory of a Config without one, in bytes.
	DefaultMemory = 256 << 20
	// MaxFetches is how many fetches run at a time. More wait for a slot, within
	// their own timeout; a fetch inside another needs none.
	MaxFetches = 64

	maxRefreshes = 8  // at a time; others are put off to a later use
	maxSaves     = 16 // at a time; others are left out

	slack = 144 // per entry: its share of the tables, and what the allocator rounds up
)

// Config configures a Cache. The zero Config is usable.
type Config struct {
	// Memory bounds all entries together, in bytes: values, keys, remembered
	// failures and the cache's own structures. Zero means DefaultMemory.
	Memory int64
	// Now is the clock; nil means time.Now. Now and Rand are called from many
	// goroutines.
	Now func() time.Time
	// Rand returns numbers in [0,1), for the jitter of refreshes and the draw of
	// evictions; nil means math/rand/v2.
	Rand func() float64
}

// A Cache holds values of one type. See the package's introduction. All methods
// are safe for concurrent use.
type Cache[V Value] struct {
	// Read by every Get, hardly ever written.
	seed  maphash.Seed
	clock func() time.Time
	rand  func() float64
	birth time.Time
	table table[V]
	epoch atomic.Uint64 // counts insertions: the clock of the LRU order
	_     [64]byte      // keeps writers' state off the readers' cache line

	fetchSlots, refreshSlots, saveSlots chan struct{}

	overhead int64 // of an entry beside key and value, in bytes

	// Used through locked only:
	mu        sync.Mutex
	memory    int64
	store     Store[V]
	flushed   flushes
	fetches   map[Key]*fetch[V]
	values    pool[V]
	negatives pool[V]
}

// New returns a Cache.
func New[V Value](cfg Config) *Cache[V] {
	if cfg.Memory <= 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	return &Cache[V]{
		seed:         maphash.MakeSeed(),
		clock:        cfg.Now,
		rand:         cfg.Rand,
		birth:        cfg.Now(),
		table:        newTable[V](cfg.Memory),
		fetchSlots:   make(chan struct{}, MaxFetches),
		refreshSlots: make(chan struct{}, maxRefreshes),
		saveSlots:    make(chan struct{}, maxSaves),
		overhead:     int64(reflect.TypeFor[entry[V]]().Size()+reflect.TypeFor[held[V]]().Size()) + slack,
		memory:       cfg.Memory,
		fetches:      make(map[Key]*fetch[V]),
	}
}

// locked is a cache whose mutex the caller holds. What must not run without the
// mutex is a method of it.
type locked[V Value] struct{ *Cache[V] }

func (c *Cache[V]) lock() locked[V] {
	c.mu.Lock()
	return locked[V]{c}
}

func (c locked[V]) unlock() { c.mu.Unlock() }

// instant is one reading of the clock. Values end by the wall clock, as the KDC
// wrote it; pauses are measured by the monotonic one, which no adjustment of the
// time moves.
type instant struct {
	wall   int64 // nanoseconds since 1970
	steady int64 // nanoseconds since the cache was made
}

func (c *Cache[V]) now() instant {
	t := c.clock()
	return instant{wall: t.UnixNano(), steady: int64(t.Sub(c.birth))}
}

func (c *Cache[V]) hash(key Key) uint64 { return maphash.Comparable(c.seed, key) }

func (c *Cache[V]) find(key Key) *entry[V] { return c.table.find(c.hash(key), key) }

// Get returns the value held for key, if it can be used and nothing needs to be
// done about it. It is the hot read. If it returns false, call Fetch, which may
// still answer at once (with a value whose refresh it starts, or a remembered
// failure).
func (c *Cache[V]) Get(key Key) (v V, ok bool) {
	if e := c.find(key); e != nil {
		h, now := e.held.Load(), c.now()
		if h.usable(now) && now.steady < h.due.Load() {
			c.touch(e, h)
			return h.value, true
		}
	}
	return v, false
}

// touch records a use. It writes the entry only after an insertion elsewhere, and
// counts uses exactly up to a thousand, then by sampling, so that cores which share
// one entry do not fight over its cache line.
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
