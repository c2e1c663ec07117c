package cache

import (
	"context"
	"slices"
)

// Item is what operators see of an entry.
type Item[V Value] struct {
	Key     Key
	Value   V
	Uses    uint64 // exact up to a thousand, estimated beyond
	Bytes   int64
	Suspect bool // refused by its service, and no successor yet
}

// Stats counts what a cache holds and did.
type Stats struct {
	Values, Negatives int   // entries held: values, remembered failures
	Bytes             int64 // of both
	Memory            int64 // the budget
	Flights           int   // fetches under way

	Misses, Refreshes, Successors uint64 // fetches that ended, by reason
	Failures                      uint64 // of these
	Stored                        uint64 // of these: answered by the store
	Evictions                     uint64 // entries that went for want of memory
}

func (s *Stats) count(r Reason, src Source, err error) {
	switch r {
	case Missing:
		s.Misses++
	case Refreshing:
		s.Refreshes++
	case Succeeding:
		s.Successors++
	}
	if err != nil {
		s.Failures++
	} else if src == Stored {
		s.Stored++
	}
}

// Stats returns the counts.
func (c *Cache[V]) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Values, s.Negatives = len(c.values.entries), len(c.negatives.entries)
	s.Bytes, s.Memory = c.values.bytes+c.negatives.bytes, c.cfg.Memory
	s.Flights = len(c.flights)
	return s
}

// Snapshot lists the values that can be used and whose key matches (nil matches
// all), in no order.
func (c *Cache[V]) Snapshot(match func(Key) bool) []Item[V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	var items []Item[V]
	for _, e := range c.values.entries {
		h := e.held.Load()
		if !h.usable(now) || match != nil && !match(e.key) {
			continue
		}
		items = append(items, Item[V]{
			Key: e.key, Value: h.value, Uses: h.uses.Load(), Bytes: e.weight,
			Suspect: h.suspect,
		})
	}
	return items
}

// Drop forgets all values and failures whose key matches, and reports how many
// values that were. Fetches under way for such keys are answered to those who
// wait and then forgotten too. What callers hold stays good. match must not call
// the cache.
func (c *Cache[V]) Drop(match func(Key) bool) int {
	n, _ := c.drop(match, false)
	return n
}

// Flush is Drop for operators: the store forgets too, and from now on nothing is
// taken from it that was obtained before.
func (c *Cache[V]) Flush(match func(Key) bool) int {
	n, keys := c.drop(match, true)
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.store; s != nil && len(keys) > 0 && !c.closed {
		c.work.Go(func() { c.erase(s, keys) })
	}
	return n
}

func (c *Cache[V]) drop(match func(Key) bool, flush bool) (n int, keys []Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if flush {
		c.flushed = c.cfg.Now()
	}
	for _, f := range c.flights {
		if match(f.key) {
			c.abandon(f)
			if f.reason == Refreshing {
				f.waiters-- // the cache itself
			}
			if f.waiters == 0 {
				f.cancel()
			}
		}
	}
	for _, p := range []*pool[V]{&c.values, &c.negatives} {
		for _, e := range slices.Backward(p.entries) {
			if !match(e.key) {
				continue
			}
			if p == &c.values {
				n++
				keys = append(keys, e.key)
			}
			c.forget(e)
		}
	}
	return n, keys
}

// erase deletes keys from the store, each within the time a store has.
func (c *Cache[V]) erase(s Store[V], keys []Key) {
	defer func() { _ = recover() }()
	for _, key := range keys {
		ctx, cancel := context.WithTimeout(c.base, storeTimeout)
		s.Delete(ctx, key)
		cancel()
		if c.base.Err() != nil {
			return
		}
	}
}
