package cache

import (
	"context"
	"time"
)

const storeTimeout = time.Second // for one call of a Store

// Store keeps values beyond the process and shares them between processes. It is
// called inside fetches, and after them in the background: a store that is slow or
// down never delays a read of what is held.
//
// All methods get a context that ends after a second and have to heed it. A Store
// seals what it writes, reports its own errors, is safe for concurrent use, and does
// not panic.
type Store[V any] interface {
	// Load returns the value stored for key. It returns false if there is none, or
	// if it cannot be read.
	Load(ctx context.Context, key Key) (V, bool)
	// Lock keeps other processes from fetching key until unlock is called, which is
	// never nil. If it cannot get the lock in time, the fetch continues without.
	Lock(ctx context.Context, key Key) (unlock func())
	// Save stores a value.
	Save(ctx context.Context, key Key, value V)
	// Delete removes a value, after a flush.
	Delete(ctx context.Context, key Key)
}

// SetStore puts s behind the cache; nil removes it. Fetches under way end with the
// store they began with.
func (c *Cache[V]) SetStore(s Store[V]) {
	l := c.lock()
	defer l.unlock()
	l.store = s
}

// fetchThroughStore fetches, unless the store has a value. save, which may be nil,
// is left to do once the waiters have their answer.
func (c *Cache[V]) fetchThroughStore(ctx context.Context, f *fetch[V], p Policy[V]) (v V, src Source, save func(), err error) {
	s := f.store
	if s == nil {
		v, err = p.Fetch(ctx)
		return v, Fetched, nil, err
	}
	if v, ok := c.load(ctx, f); ok {
		return v, Stored, nil, nil
	}
	lock, cancel := context.WithTimeout(ctx, storeTimeout)
	unlock := s.Lock(lock, f.key)
	cancel()
	defer func() {
		if save == nil {
			unlock() // the fetch failed, panicked, or was not needed
		}
	}()
	// The process that had the lock before may have stored the value.
	if v, ok := c.load(ctx, f); ok {
		return v, Stored, nil, nil
	}
	if v, err = p.Fetch(ctx); err != nil {
		return v, Fetched, nil, err
	}
	return v, Fetched, func() { defer unlock(); c.save(s, f, v) }, nil
}

// load loads a value from the store, if it suits the fetch's reason: it can be used,
// is newer than the last flush, and is not the one to be replaced.
func (c *Cache[V]) load(ctx context.Context, f *fetch[V]) (v V, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	v, found := f.store.Load(ctx, f.key)
	if !found || !v.Start().After(f.newerThan) {
		return v, false
	}
	now := c.now()
	h := c.hold(v, now)
	return v, h != nil && (f.reason == missing || now.steady < h.due.Load())
}

// save stores a value, unless it was flushed while it was fetched or too many saves
// are under way.
func (c *Cache[V]) save(s Store[V], f *fetch[V], v V) {
	l := c.lock()
	orphaned := f.orphaned
	l.unlock()
	if orphaned {
		return
	}
	select {
	case c.saveSlots <- struct{}{}:
		defer func() { <-c.saveSlots }()
	default:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	s.Save(ctx, f.key, v)
}
