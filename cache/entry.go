package cache

import (
	"errors"
	"math"
	"sync/atomic"
	"time"
)

// margin is how long before its end a value is not returned any more; at most a
// tenth of its life.
const margin = 30 * time.Second

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
	weight   int64 // its size in the budget, in bytes
	failures int   // refreshes that failed in a row
	rationing
}

// held is a value or a remembered failure, with the times that follow from it. A new
// value is a new held.
type held[V Value] struct {
	value V
	until int64        // wall: not returned from here on
	due   atomic.Int64 // steady: a value is refreshed, a failure is tried again
	uses  atomic.Uint64

	suspect bool // refused by its service; under the mutex

	err      error // a remembered failure, and then there is no value
	failures int   // in a row, this one included
}

func (h *held[V]) usable(now instant) bool { return h.err == nil && now.wall < h.until }

// failing reports whether h is a failure that is returned without another attempt.
func (h *held[V]) failing(now instant) bool { return h.err != nil && now.steady < h.due.Load() }

// over reports whether h serves no purpose any more.
func (h *held[V]) over(now instant) bool {
	if h.err != nil {
		return now.steady >= h.due.Load()+int64(negativeGrace)
	}
	return now.wall >= h.until
}

// claim reports whether the caller is the one who has to refresh h now; from then on
// no other caller is, until putOff or a successor.
func (h *held[V]) claim(now instant) bool {
	due := h.due.Load()
	return now.steady >= due && h.due.CompareAndSwap(due, math.MaxInt64)
}

func (h *held[V]) claimed() bool { return h.due.Load() == math.MaxInt64 }

// The share of its life after which a value is refreshed: between the first and
// the sum of both. One ticket lifetime after a restart, all tickets of a fleet would
// otherwise be refreshed at once.
const (
	refreshFrom   = 0.70
	refreshSpread = 0.15
)

// latest is the last time that nanoseconds since 1970 can express, in the year 2262.
var latest = time.Unix(0, math.MaxInt64)

// endNanos returns t in nanoseconds since 1970, or those of latest if t is later.
func endNanos(t time.Time) int64 {
	if t.After(latest) {
		t = latest
	}
	return t.UnixNano()
}

// hold computes the times of value's life. It returns nil if the value is at its end
// already.
func (c *Cache[V]) hold(value V, now instant) *held[V] {
	start, end := value.Start().UnixNano(), endNanos(value.End())
	if start >= end || value.Start().IsZero() {
		start = now.wall
	}
	life := end - start
	h := &held[V]{value: value, until: end - max(min(int64(margin), life/10), 0)}
	if now.wall >= h.until {
		return nil
	}
	point := start + int64(float64(life)*(refreshFrom+refreshSpread*c.rand()))
	h.due.Store(now.steady + min(point, h.until) - now.wall)
	return h
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
	pause += time.Duration(float64(pause) * 0.25 * c.rand())
	h.due.Store(now.steady + int64(pause))
}

// install makes value the one held for key and reports whether it could: a value
// at its end, or bigger than all memory, is not kept.
func (c locked[V]) install(key Key, value V, now instant) bool {
	h := c.hold(value, now)
	if h == nil {
		return false
	}
	weight := c.overhead + key.size() + value.Size()
	if weight > c.memory {
		return false
	}
	e := c.put(key, h, &c.values, weight)
	e.failures = 0
	c.sweep(now)
	c.shrink(e)
	return true
}

// Rememberer is an error that may be remembered: RememberFor returns how long the
// n-th failure in a row (from 1) for one key is returned without another attempt; 0
// means not at all.
type Rememberer interface {
	error
	RememberFor(n int) time.Duration
}

// errorWeight is counted for a remembered error beside its text, in bytes: what it
// wraps cannot be measured.
const errorWeight = 512

// remember holds err for key, if it is a Rememberer. A value that can still be used
// is never displaced.
func (c locked[V]) remember(key Key, err error, now instant) {
	r, ok := errors.AsType[Rememberer](err)
	if !ok {
		return
	}
	n := 1
	if e := c.find(key); e != nil {
		h := e.held.Load()
		if h.usable(now) {
			return
		}
		if h.err != nil && !h.over(now) {
			n = h.failures + 1
		}
	}
	pause := r.RememberFor(n)
	if pause <= 0 {
		return
	}
	h := &held[V]{err: err, failures: n}
	h.due.Store(now.steady + int64(pause))
	e := c.put(key, h, &c.negatives, c.overhead+key.size()+errorWeight+int64(len(err.Error())))
	c.sweep(now)
	c.shrink(e)
}

// put puts h under key, making its entry if there is none, and counts it in p.
func (c locked[V]) put(key Key, h *held[V], p *pool[V], weight int64) *entry[V] {
	epoch := c.epoch.Add(1)
	e := c.find(key)
	if e == nil {
		e = &entry[V]{hash: c.hash(key), key: key.kept()}
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

const (
	// maxSuccessors in a row are fetched before they are rationed.
	maxSuccessors = 3
	// ration is the pause between later ones, and between two confirmations that
	// count: a client that can make a service refuse good tickets on one path and
	// use them on another could otherwise have them fetched without end.
	ration = 30 * time.Second
)

// rationing counts the successors of one key. Times are steady.
type rationing struct {
	row       int   // successors requested since the last confirmation
	last      int64 // when the last one was
	confirmed int64 // when a confirmation counted last
}

// allow reports whether a successor may be fetched now, and counts it.
func (r *rationing) allow(now instant) bool {
	if r.row >= maxSuccessors && now.steady-r.last < int64(ration) {
		return false
	}
	r.row++
	r.last = now.steady
	return true
}

// confirm restarts the count, at most once in a ration.
func (r *rationing) confirm(now instant) {
	if r.row > 0 && (r.confirmed == 0 || now.steady-r.confirmed >= int64(ration)) {
		r.row, r.confirmed = 0, now.steady
	}
}
