package cache

import (
	"context"
	"errors"
	"time"
)

// ErrRecursive is returned by a fetch that asks, within itself, for the key it
// is to provide.
var ErrRecursive = errors.New("a ticket was requested within its own fetch")

// Policy says how to get a value. It belongs to the call, not to the key: of
// several callers, the policy of the one that starts the fetch is used.
type Policy[V Value] struct {
	// Fetch gets the value. Its context ends with Timeout, never with a caller, and
	// Fetch has to heed it. It may call the cache for other keys with that context.
	Fetch func(context.Context) (V, error)
	// Timeout bounds one fetch, waiting for a slot included. Zero means 10 s.
	Timeout time.Duration
	// OnPanic, if not nil, is called once for a fetch that panicked, whose waiters get
	// the same error, and for saving its value.
	OnPanic func(*PanicError)
}

// Fetch returns the value held for key, or gets it. With a value held it never
// waits: if the value's refresh is due, that starts in the background. If a failure
// is remembered, it returns that, and Cached. Otherwise it waits for the one fetch
// that runs for the key, or for the end of ctx, whose error it then returns.
func (c *Cache[V]) Fetch(ctx context.Context, key Key, p Policy[V]) (V, Source, error) {
	for {
		v, ok, err := c.ready(key, p)
		if ok {
			return v, Cached, err
		}
		f, err := c.join(ctx, key, p)
		if err != nil {
			return v, "", err
		}
		if f != nil {
			return c.wait(ctx, f)
		}
	}
}

// ready returns what can be answered at once.
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
	case h.failing(now):
		c.touch(e, h)
		return v, true, h.err
	}
	return v, false, nil
}

// join returns the fetch for key, started if there is none, with the caller
// counted as a waiter; nil if a fetch ended meanwhile and left an answer.
func (c *Cache[V]) join(ctx context.Context, key Key, p Policy[V]) (*fetch[V], error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	parent := c.parentOf(ctx)
	for f := parent; f != nil; f = f.parent {
		if f.key == key {
			return nil, ErrRecursive
		}
	}
	l := c.lock()
	defer l.unlock()
	if e := l.find(key); e != nil {
		if h, now := e.held.Load(), l.now(); h.usable(now) || h.failing(now) {
			return nil, nil
		}
	}
	return l.joinOrStart(key, missing, parent, p), nil
}

// refresh starts the background refresh of h, which the caller has claimed. If
// too many run already, a later use tries again.
func (c *Cache[V]) refresh(e *entry[V], h *held[V], now instant, p Policy[V]) {
	select {
	case c.refreshSlots <- struct{}{}:
	default:
		h.due.Store(now.steady + int64(time.Second))
		return
	}
	l := c.lock()
	defer l.unlock()
	if e.held.Load() != h || e.pool == nil || l.fetches[e.key] != nil {
		<-c.refreshSlots // the fetch under way sets what is due
		return
	}
	l.start(e.key, refreshing, nil, c.refreshSlots, p)
}

// Refreshing returns, within a fetch, the value that the fetch is to replace because
// its end is near. It is false if the fetch has another reason.
func (c *Cache[V]) Refreshing(ctx context.Context) (v V, ok bool) {
	if f := c.parentOf(ctx); f != nil && f.reason == refreshing {
		if e := c.find(f.key); e != nil {
			h := e.held.Load()
			return h.value, h.err == nil
		}
	}
	return v, false
}

// Renew returns the value that has replaced old, or waits for one, whose fetch it
// starts if none is under way: for a caller that knows, before the refresh is due,
// that old does not suffice. Others keep using old until then.
func (c *Cache[V]) Renew(ctx context.Context, key Key, old V, p Policy[V]) (V, error) {
	v, f, err := c.renewal(ctx, key, old, p)
	if f != nil {
		v, _, err = c.wait(ctx, f)
	}
	return v, err
}

// renewal finds the newer value, or the fetch that brings it.
func (c *Cache[V]) renewal(ctx context.Context, key Key, old V, p Policy[V]) (v V, f *fetch[V], err error) {
	if err := ctx.Err(); err != nil {
		return v, nil, err
	}
	l := c.lock()
	defer l.unlock()
	if e := l.find(key); e != nil {
		if h := e.held.Load(); h.usable(l.now()) && h.value != old {
			return h.value, nil, nil
		}
	}
	return v, l.joinOrStart(key, refreshing, c.parentOf(ctx), p), nil
}

// Settled waits for the fetch under way for key, if there is one, and returns the
// value that is held afterwards: for a caller that prefers a refreshed value to the
// one held. It starts nothing.
func (c *Cache[V]) Settled(ctx context.Context, key Key) (v V, ok bool) {
	if f := c.underWay(ctx, key); f != nil {
		_, _, _ = c.wait(ctx, f)
	}
	e := c.find(key)
	if e == nil {
		return v, false
	}
	h := e.held.Load()
	return h.value, h.usable(c.now())
}

// underWay returns the fetch for key with the caller as a waiter; nil if there is
// none, or if the caller is within it.
func (c *Cache[V]) underWay(ctx context.Context, key Key) *fetch[V] {
	parent := c.parentOf(ctx)
	l := c.lock()
	defer l.unlock()
	f := l.fetches[key]
	if f == nil {
		return nil
	}
	for above := parent; above != nil; above = above.parent {
		if above == f {
			return nil
		}
	}
	l.addWaiter(f, parent)
	return f
}

// ErrRationed is returned instead of a successor when a service has refused one
// value after the other: the ticket is not the reason, then.
var ErrRationed = errors.New("ticket was refused repeatedly, no new one is fetched for a while")

// Successor returns the value that has replaced the refused one, or waits for a new
// one. Others keep using the refused value until then, and afterwards if none can be
// had. A key gets three successors in a row and then one in 30 s, else ErrRationed;
// Confirm restarts the count.
func (c *Cache[V]) Successor(ctx context.Context, key Key, refused V, p Policy[V]) (V, Source, error) {
	v, f, err := c.succeed(ctx, key, refused, p)
	if f == nil {
		return v, Cached, err
	}
	return c.wait(ctx, f)
}

// succeed finds the newer value, or the fetch that brings it.
func (c *Cache[V]) succeed(ctx context.Context, key Key, refused V, p Policy[V]) (v V, f *fetch[V], err error) {
	if err := ctx.Err(); err != nil {
		return v, nil, err
	}
	l := c.lock()
	defer l.unlock()
	now, e := l.now(), l.find(key)
	if e != nil {
		if h := e.held.Load(); h.usable(now) {
			if h.value != refused {
				l.touch(e, h)
				return h.value, nil, nil
			}
			h.suspect = true
		}
	}
	if l.fetches[key] == nil && e != nil && !e.allow(now) {
		return v, nil, ErrRationed
	}
	return v, l.joinOrStart(key, succeeding, c.parentOf(ctx), p), nil
}

// Confirm reports that a service accepted value. It has an effect only after
// successors: call it when a repeat with one succeeded.
func (c *Cache[V]) Confirm(key Key, value V) {
	l := c.lock()
	defer l.unlock()
	if e := l.find(key); e != nil && e.held.Load().value == value {
		e.confirm(l.now())
	}
}
