package cache

import "time"

const (
	// drawn is how many entries an eviction chooses from.
	drawn = 16
	// negativeShare of the memory, and negativeCount, bound remembered failures,
	// which any client can cause by inventing host names.
	negativeShare = 8
	negativeCount = 8192
	// swept is how many entries are checked for their age at each insertion.
	swept = 4
	// negativeGrace is how long a failure that is not returned any more is still
	// known, so that the next one is counted as its successor.
	negativeGrace = 15 * time.Minute
)

// SetMemory changes the budget of all entries, in bytes, and evicts what exceeds it
// at once. Zero means DefaultMemory.
func (c *Cache[V]) SetMemory(bytes int64) {
	if bytes <= 0 {
		bytes = DefaultMemory
	}
	l := c.lock()
	defer l.unlock()
	l.memory = bytes
	l.shrink(nil)
}

// Remeasure reads the size of the value held for key again, after it grew.
func (c *Cache[V]) Remeasure(key Key) {
	l := c.lock()
	defer l.unlock()
	if e := l.find(key); e != nil {
		if h := e.held.Load(); h.err == nil {
			l.values.reweigh(e, l.overhead+e.key.size()+h.value.Size())
			l.shrink(e)
		}
	}
}

// shrink evicts until the budget holds; spare, just inserted, stays.
func (c locked[V]) shrink(spare *entry[V]) {
	for c.negatives.bytes > c.memory/negativeShare || len(c.negatives.entries) > negativeCount {
		if !c.evict(&c.negatives, spare) {
			break
		}
	}
	for c.values.bytes+c.negatives.bytes > c.memory {
		if !c.evict(&c.values, spare) && !c.evict(&c.negatives, spare) {
			break
		}
	}
}

// evict removes an entry and reports whether another call may free more.
func (c locked[V]) evict(p *pool[V], spare *entry[V]) bool {
	e := p.oldest(c.rand, spare)
	if e == nil {
		// The draw may have met only spare; with others there, draw again.
		return len(p.entries) > 1
	}
	c.remove(e)
	return true
}

// sweep checks a few entries and removes those at their end, so that unused entries
// do not wait for the memory to fill.
func (c locked[V]) sweep(now instant) {
	for _, p := range []*pool[V]{&c.values, &c.negatives} {
		for range min(swept, len(p.entries)) {
			if p.cursor++; p.cursor >= len(p.entries) {
				p.cursor = 0
			}
			if e := p.entries[p.cursor]; e.held.Load().over(now) && c.fetches[e.key] == nil {
				c.remove(e)
				if len(p.entries) == 0 {
					break
				}
			}
		}
	}
}

func (c locked[V]) remove(e *entry[V]) {
	if e.pool == nil {
		return
	}
	e.pool.remove(e)
	c.table.remove(e)
}

// pool is a set of entries from which one can be drawn at random.
type pool[V Value] struct {
	entries []*entry[V]
	bytes   int64
	cursor  int // of sweep
}

func (p *pool[V]) add(e *entry[V]) {
	e.pool, e.place, e.weight = p, len(p.entries), 0
	p.entries = append(p.entries, e)
}

func (p *pool[V]) remove(e *entry[V]) {
	last := len(p.entries) - 1
	p.entries[e.place] = p.entries[last]
	p.entries[e.place].place = e.place
	p.entries[last] = nil
	p.entries = p.entries[:last]
	p.bytes -= e.weight
	e.pool, e.weight = nil, 0
}

func (p *pool[V]) reweigh(e *entry[V], weight int64) {
	p.bytes += weight - e.weight
	e.weight = weight
}

// oldest draws entries and returns the least recently used of them, never spare;
// nil if there is none.
func (p *pool[V]) oldest(random func() float64, spare *entry[V]) *entry[V] {
	n := len(p.entries)
	var old *entry[V]
	for i := range min(drawn, n) {
		at := i
		if n > drawn {
			at = min(int(random()*float64(n)), n-1)
		}
		if e := p.entries[at]; e != spare && (old == nil || e.touched.Load() < old.touched.Load()) {
			old = e
		}
	}
	return old
}
