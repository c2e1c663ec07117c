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

// Stats is what a cache holds now.
type Stats struct {
	Values, Negatives int   // entries: values, remembered failures
	Bytes             int64 // of both
	Memory            int64 // bounds Bytes
	Fetches           int   // under way
}

// Stats returns the counts.
func (c *Cache[V]) Stats() Stats {
	l := c.lock()
	defer l.unlock()
	return Stats{
		Values: len(l.values.entries), Negatives: len(l.negatives.entries),
		Bytes: l.values.bytes + l.negatives.bytes, Memory: l.memory, Fetches: len(l.fetches),
	}
}

// Snapshot lists the values that can be used and whose key matches (nil matches
// all), in no order.
func (c *Cache[V]) Snapshot(match func(Key) bool) []Item[V] {
	l := c.lock()
	defer l.unlock()
	now := l.now()
	var items []Item[V]
	for _, e := range l.values.entries {
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

// Drop removes all values and failures whose key matches, and returns how many
// values that were. Fetches under way for such keys still answer their waiters, but
// their results are not kept. Values that callers hold stay good. match must not
// call the cache.
func (c *Cache[V]) Drop(match func(Key) bool) int {
	l := c.lock()
	defer l.unlock()
	return len(l.drop(match))
}

// Flush is Drop for operators: it removes the values from the store too, and no
// value that was obtained before is loaded from it any more.
func (c *Cache[V]) Flush(match func(Key) bool) int {
	l := c.lock()
	defer l.unlock()
	l.flushed = c.clock()
	keys := l.drop(match)
	if s := l.store; s != nil && len(keys) > 0 {
		go deleteStored(s, keys)
	}
	return len(keys)
}

// drop returns the keys of the values that it removed.
func (c locked[V]) drop(match func(Key) bool) (keys []Key) {
	for _, f := range c.fetches {
		if match(f.key) {
			c.orphan(f)
			if f.reason == refreshing {
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
				keys = append(keys, e.key)
			}
			c.remove(e)
		}
	}
	return keys
}

// deleteStored deletes keys from the store, each within the time a store has.
func deleteStored[V Value](s Store[V], keys []Key) {
	for _, key := range keys {
		ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
		s.Delete(ctx, key)
		cancel()
	}
}
