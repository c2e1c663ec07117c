package cache

import "time"

const (
	// draw is how many entries an eviction chooses from.
	draw = 16
	// negativeShare of the memory, and negativeCount, bound remembered
	// failures, which anybody who invents host names can make.
	negativeShare = 8
	negativeCount = 8192
	// swept is how many entries are looked at for their age at each insertion.
	swept = 4
	// negativeGrace is how long a failure that is served no more is still
	// known, for the next one to be counted as its successor.
	negativeGrace = 15 * time.Minute
)

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

// oldest draws entries and returns the least recently used of them, never
// spare; nil if there is none.
func (p *pool[V]) oldest(random func() float64, spare *entry[V]) *entry[V] {
	n := len(p.entries)
	var old *entry[V]
	for i := range min(draw, n) {
		at := i
		if n > draw {
			at = min(int(random()*float64(n)), n-1)
		}
		if e := p.entries[at]; e != spare && (old == nil || e.touched.Load() < old.touched.Load()) {
			old = e
		}
	}
	return old
}

// enforce evicts until the budget holds; spare, just inserted, stays. Under the
// mutex.
func (c *Cache[V]) enforce(spare *entry[V]) {
	for c.negatives.bytes > c.cfg.Memory/negativeShare || len(c.negatives.entries) > negativeCount {
		if !c.evict(&c.negatives, spare) {
			break
		}
	}
	for c.values.bytes+c.negatives.bytes > c.cfg.Memory {
		if !c.evict(&c.values, spare) && !c.evict(&c.negatives, spare) {
			break
		}
	}
}

func (c *Cache[V]) evict(p *pool[V], spare *entry[V]) bool {
	e := p.oldest(c.cfg.Rand, spare)
	if e == nil {
		// The draw may have met nothing but spare; with others there, draw
		// again.
		return len(p.entries) > 1
	}
	c.forget(e)
	c.stats.Evictions++
	return true
}

// sweep looks at a few entries and forgets those at their end, so that what is
// used no more does not wait for the memory to fill. Under the mutex.
func (c *Cache[V]) sweep(now instant) {
	for _, p := range []*pool[V]{&c.values, &c.negatives} {
		for range min(swept, len(p.entries)) {
			p.cursor++
			if p.cursor >= len(p.entries) {
				p.cursor = 0
			}
			if e := p.entries[p.cursor]; e.held.Load().over(now) && c.flights[e.key] == nil {
				c.forget(e)
				if len(p.entries) == 0 {
					break
				}
			}
		}
	}
}

// over reports whether h is of no use to anybody any more.
func (h *held[V]) over(now instant) bool {
	if h.err != nil {
		return now.steady >= h.due.Load()+int64(negativeGrace)
	}
	return now.wall >= h.until
}
