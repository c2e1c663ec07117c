package cache

import (
	"context"
	"fmt"
)

// Store keeps values beyond the process and shares them between processes. It
// is asked inside a fetch only, and told after one, in the background: a store
// that is slow or down never delays a read of what is held.
//
// All methods get a context that ends after a second and have to heed it. A
// Store seals what it writes, counts its own troubles, and may be called from
// many goroutines.
type Store[V any] interface {
	// Load returns the value stored for key. False stands for absent,
	// unreadable and unreachable alike.
	Load(ctx context.Context, key Key) (V, bool)
	// Lock keeps other processes from fetching key until unlock is called,
	// which is never nil. Whoever cannot have the lock in time goes on
	// without it.
	Lock(ctx context.Context, key Key) (unlock func())
	// Save stores a value.
	Save(ctx context.Context, key Key, value V)
	// Delete removes one, after a flush.
	Delete(ctx context.Context, key Key)
}

// SetStore puts s behind the cache; nil takes it away. Fetches under way end
// with the one they began with.
func (c *Cache[V]) SetStore(s Store[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store = s
}

// seek is a fetch with the store around it. What it leaves to be done once the
// waiters have their answer is after, which may be nil.
func (c *Cache[V]) seek(ctx context.Context, f *flight[V], p Policy[V]) (v V, src Source, after func(), err error) {
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
		if after == nil {
			unlock() // the fetch failed, panicked, or was not needed
		}
	}()
	// Who had the lock before us may have fetched what we want.
	if v, ok := c.load(ctx, f); ok {
		return v, Stored, nil, nil
	}
	if v, err = p.Fetch(ctx); err != nil {
		return v, Fetched, nil, err
	}
	return v, Fetched, func() { defer unlock(); c.keep(s, f, v) }, nil
}

// load takes a value from the store, if it serves the flight's reason: it can be
// used, is no older than the last flush, and is not the one to be replaced.
func (c *Cache[V]) load(ctx context.Context, f *flight[V]) (v V, ok bool) {
	defer c.recoverTo(f, "loading")
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	v, found := f.store.Load(ctx, f.key)
	if !found || !v.Start().After(f.newerThan) {
		return v, false
	}
	now := c.now()
	h := c.hold(v, now)
	return v, h != nil && (f.reason == Missing || now.steady < h.due.Load())
}

// keep saves a value, unless more saves are under way than is good.
func (c *Cache[V]) keep(s Store[V], f *flight[V], v V) {
	defer c.recoverTo(f, "saving")
	c.mu.Lock()
	orphan := f.orphan
	c.mu.Unlock()
	if orphan { // flushed while it was fetched
		return
	}
	select {
	case c.save <- struct{}{}:
		defer func() { <-c.save }()
	default:
		return
	}
	ctx, cancel := context.WithTimeout(c.base, storeTimeout)
	defer cancel()
	s.Save(ctx, f.key, v)
}

// recoverTo turns the panic of a background task into an event.
func (c *Cache[V]) recoverTo(f *flight[V], what string) {
	if r := recover(); r != nil && c.cfg.Observe != nil {
		c.cfg.Observe(Event{Key: f.key, Reason: f.reason, Source: Stored, Err: fmt.Errorf("%s a ticket panicked: %v", what, r)})
	}
}
