package cache

import (
	"context"
	"slices"
	"time"
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

// Flush is Drop for operators, of one identity's values: it removes them from the store
// too, and no value of the identity that was obtained before is loaded from it any more.
func (c *Cache[V]) Flush(identity string, match func(Key) bool) int {
	l := c.lock()
	defer l.unlock()
	l.flushed.add(identity, c.clock())
	keys := l.drop(func(k Key) bool { return k.Identity == identity && match(k) })
	if s := l.store; s != nil && len(keys) > 0 {
		go deleteStored(s, keys)
	}
	return len(keys)
}

// maxFlushes bounds the identities whose flushes are remembered one by one.
const maxFlushes = 1024

// flushes are when identities were flushed last: stored values that were obtained before
// are not used.
type flushes struct {
	all time.Time // of every identity that is not in the map
	by  map[string]time.Time
}

func (f *flushes) of(identity string) time.Time {
	if at, ok := f.by[identity]; ok {
		return at
	}
	return f.all
}

func (f *flushes) add(identity string, now time.Time) {
	if f.by == nil {
		f.by = make(map[string]time.Time)
	}
	if _, known := f.by[identity]; !known && len(f.by) >= maxFlushes {
		f.all = now
		clear(f.by)
	}
	f.by[identity] = now
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
