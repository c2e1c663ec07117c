package cache

import (
	"hash/maphash"
	"math"
	"sync/atomic"
	"time"
)

// entry is what the cache knows of one key.
type entry[V Value] struct {
	hash    uint64
	key     Key
	next    atomic.Pointer[entry[V]] // in its chain of the table
	held    atomic.Pointer[held[V]]  // never nil
	touched atomic.Uint64            // epoch of the last use

	// Under the cache's mutex:
	pool     *pool[V]
	place    int   // in pool
	weight   int64 // bytes reckoned for it
	failures int   // refreshes that failed in a row
	suspicion
}

// held is a value, or a failure that is remembered, with what was reckoned from
// it once. A new value is a new held.
type held[V Value] struct {
	value V
	until int64        // wall: not served from here on
	due   atomic.Int64 // steady: a value is refreshed, a failure forgotten
	uses  atomic.Uint64

	suspect bool // refused by its service; under the mutex

	err      error // a remembered failure, and then there is no value
	failures int   // in a row, this one included
}

func (h *held[V]) usable(now instant) bool { return h.err == nil && now.wall < h.until }

// The share of its life after which a value is refreshed: between the first and
// the sum of both. One ticket lifetime after a restart, fleets would otherwise
// all come back at once.
const (
	refreshFrom   = 0.70
	refreshSpread = 0.15
)

// hold reckons the points of value's life. It is nil if the value is at its end
// already.
func (c *Cache[V]) hold(value V, now instant) *held[V] {
	start, end := value.Start().UnixNano(), value.End().UnixNano()
	if start >= end || value.Start().IsZero() {
		start = now.wall
	}
	life := end - start
	h := &held[V]{value: value, until: end}
	if margin := min(int64(c.cfg.Margin), life/10); margin > 0 {
		h.until -= margin
	}
	if now.wall >= h.until {
		return nil
	}
	point := start + int64(float64(life)*(refreshFrom+refreshSpread*c.cfg.Rand()))
	h.due.Store(now.steady + min(point, h.until) - now.wall)
	return h
}

// install makes value the one held for key and reports whether it could: a value
// at its end, or bigger than all memory, is not kept. Under the mutex.
func (c *Cache[V]) install(key Key, value V, now instant) bool {
	h := c.hold(value, now)
	if h == nil {
		return false
	}
	weight := c.weight + key.size() + value.Size()
	if weight > c.cfg.Memory {
		return false
	}
	e := c.hang(key, h, &c.values, weight)
	e.failures = 0
	c.sweep(now)
	c.enforce(e)
	return true
}

// hang puts h under key, making its entry if need be, and counts it in p.
func (c *Cache[V]) hang(key Key, h *held[V], p *pool[V], weight int64) *entry[V] {
	epoch := c.epoch.Add(1)
	e := c.find(key)
	if e == nil {
		e = &entry[V]{hash: maphash.Comparable(c.seed, key), key: key.kept()}
		e.held.Store(h)
		e.touched.Store(epoch)
		c.table.insert(e)
	} else {
		e.held.Store(h)
		e.touched.Store(epoch)
	}
	if e.pool != p {
		if e.pool != nil {
			e.pool.remove(e)
		}
		p.add(e)
	}
	p.reweigh(e, weight)
	return e
}

// forget takes e out of the cache. Under the mutex.
func (c *Cache[V]) forget(e *entry[V]) {
	if e.pool == nil {
		return
	}
	e.pool.remove(e)
	c.table.remove(e)
}

// putOff sets when the refresh of a value is due again, after n failures in a
// row: five seconds, doubling up to five minutes, but at most half of what is
// left, so that a KDC which comes back late is still asked in time.
func (c *Cache[V]) putOff(h *held[V], n int, now instant) {
	const shortest, longest = 5 * time.Second, 5 * time.Minute
	pause := longest
	if n < 8 {
		pause = min(longest, shortest<<max(n-1, 0))
	}
	pause = min(pause, max(time.Second, time.Duration(h.until-now.wall)/2))
	pause += time.Duration(float64(pause) * 0.25 * c.cfg.Rand())
	h.due.Store(now.steady + int64(pause))
}

// claim reports whether the caller is the one who has to refresh h now; from
// then on nobody else is, until putOff or a successor.
func (h *held[V]) claim(now instant) bool {
	due := h.due.Load()
	return now.steady >= due && h.due.CompareAndSwap(due, math.MaxInt64)
}

// claimed reports whether a refresh of h was begun that has not ended.
func (h *held[V]) claimed() bool { return h.due.Load() == math.MaxInt64 }
