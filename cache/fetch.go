package cache

import (
	"context"
	"errors"
	"time"
)

// ErrRecursive is returned by a fetch that asks, within itself, for the key it
// is to provide.
var ErrRecursive = errors.New("a ticket was asked for within its own fetch")

// Policy says how to get a value. It belongs to the call, not to the key: of
// several callers the one that starts the fetch has its way.
type Policy[V Value] struct {
	// Fetch gets the value. Its context ends with Timeout or with the cache,
	// never with a caller; it has to heed it. What it needs of the caller it
	// brings along. It may call the cache for other keys with that context.
	Fetch func(context.Context) (V, error)
	// Timeout bounds one fetch, waiting for its turn included. Zero means
	// DefaultTimeout.
	Timeout time.Duration
}

// Fetch returns the value held for key, or gets it. With a value held it never
// waits: if its refresh is due, that starts in the background. With a failure
// remembered it returns that, and Cached. Otherwise it waits for the one fetch
// that runs for the key, or for the end of ctx, whose error it then returns.
func (c *Cache[V]) Fetch(ctx context.Context, key Key, p Policy[V]) (V, Source, error) {
	if v, ok, err := c.ready(key, p); ok {
		return v, Cached, err
	}
	f, err := c.join(ctx, key, p)
	if err != nil {
		var zero V
		return zero, "", err
	}
	if f == nil { // something came in between
		return c.Fetch(ctx, key, p)
	}
	return c.wait(ctx, f)
}

// ready is what can be answered at once.
func (c *Cache[V]) ready(key Key, p Policy[V]) (v V, ok bool, err error) {
	e := c.find(key)
	if e == nil {
		return v, false, nil
	}
	h, now := e.held.Load(), c.now()
	switch {
	case h.usable(now):
		c.touch(e, h)
		if h.claim(now) {
			c.refresh(e, h, now, p)
		}
		return h.value, true, nil
	case h.err != nil && now.steady < h.due.Load():
		c.touch(e, h)
		return v, true, h.err
	}
	return v, false, nil
}

// join returns the flight for key, started if there is none, with the caller
// counted as a waiter; nil if a flight ended meanwhile and left an answer.
func (c *Cache[V]) join(ctx context.Context, key Key, p Policy[V]) (*flight[V], error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	parent := c.parentOf(ctx)
	for f := parent; f != nil; f = f.parent {
		if f.key == key {
			return nil, ErrRecursive
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if e := c.find(key); e != nil {
		h, now := e.held.Load(), c.now()
		if h.usable(now) || h.err != nil && now.steady < h.due.Load() {
			return nil, nil
		}
	}
	f := c.flights[key]
	if f == nil {
		f = c.launch(key, Missing, parent, nil, p)
	}
	f.board(parent)
	return f, nil
}

// refresh starts the background refresh of h, which the caller has claimed. If
// too many run already, a later use tries again.
func (c *Cache[V]) refresh(e *entry[V], h *held[V], now instant, p Policy[V]) {
	select {
	case c.renew <- struct{}{}:
	default:
		h.due.Store(now.steady + int64(time.Second))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || e.held.Load() != h || e.pool == nil || c.flights[e.key] != nil {
		<-c.renew // whoever is at it sets what is due
		return
	}
	c.launch(e.key, Refreshing, nil, c.renew, p).waiters++ // the cache itself
}

// Refreshing tells, within a fetch, what it is to take the place of, for its end is
// near. It is false if the fetch is made for another reason.
func (c *Cache[V]) Refreshing(ctx context.Context) (V, bool) {
	if f := c.parentOf(ctx); f != nil && f.reason == Refreshing {
		if e := c.find(f.key); e != nil {
			h := e.held.Load()
			return h.value, h.err == nil
		}
	}
	var zero V
	return zero, false
}

// Renew returns the value that has taken the place of old, or waits for one, whose
// fetch it starts if none is under way: for who knows, before it is due, that old is of
// no more use. Others go on using old until then.
func (c *Cache[V]) Renew(ctx context.Context, key Key, old V, p Policy[V]) (V, error) {
	var zero V
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return zero, ErrClosed
	}
	if e := c.find(key); e != nil {
		if h := e.held.Load(); h.usable(c.now()) && h.value != old {
			c.mu.Unlock()
			return h.value, nil
		}
	}
	parent, f := c.parentOf(ctx), c.flights[key]
	if f == nil {
		f = c.launch(key, Refreshing, parent, nil, p)
		f.waiters++ // the cache itself, as of any refresh
	}
	f.board(parent)
	c.mu.Unlock()
	v, _, err := c.wait(ctx, f)
	return v, err
}

// Settled waits for the fetch that is under way for key, if there is one, and
// returns the value that is held afterwards: for who had better wait for a
// refresh than go on with what is held. It starts nothing.
func (c *Cache[V]) Settled(ctx context.Context, key Key) (V, bool) {
	c.mu.Lock()
	f := c.flights[key]
	if parent := c.parentOf(ctx); f != nil {
		for above := parent; above != nil && f != nil; above = above.parent {
			if above == f { // our own fetch waits for us
				f = nil
			}
		}
		if f != nil {
			f.board(parent)
		}
	}
	c.mu.Unlock()
	if f != nil {
		_, _, _ = c.wait(ctx, f)
	}
	e := c.find(key)
	if e == nil {
		var zero V
		return zero, false
	}
	h := e.held.Load()
	return h.value, h.usable(c.now())
}
