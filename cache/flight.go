package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// Reason says why a fetch was made.
type Reason string

// The reasons for a fetch.
const (
	Missing    Reason = "miss"    // nothing usable was held
	Refreshing Reason = "refresh" // what is held comes to its end
	Succeeding Reason = "refused" // what is held was refused by a service
)

// PanicError is what the waiters get when a fetch panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("fetching a ticket panicked: %v", e.Value) }

// errNoResult stands for a fetch whose goroutine ended without returning.
var errNoResult = errors.New("fetching a ticket ended without a result")

// flight is one fetch under way, for all who wait for its key.
type flight[V Value] struct {
	cache     *Cache[V]
	key       Key
	reason    Reason
	store     Store[V]
	newerThan time.Time  // a stored value must have been obtained after this
	parent    *flight[V] // the fetch within which this one was asked for
	turn      chan struct{}
	cancel    context.CancelFunc
	hurry     chan struct{} // closed: do not wait for a turn
	done      chan struct{} // closed: the fields below are final

	value  V
	source Source
	err    error

	// Under the cache's mutex:
	waiters int
	started bool
	hurried bool
	orphan  bool // its result is not kept
}

// flightKey is the context key under which a fetch finds its own flight, to
// know fetches inside it.
type flightKey[V Value] struct{}

func (c *Cache[V]) parentOf(ctx context.Context) *flight[V] {
	if f, ok := ctx.Value(flightKey[V]{}).(*flight[V]); ok && f.cache == c {
		return f
	}
	return nil
}

// launch starts a flight for key. turn is the slot already held for it, nil if
// it has to wait for one. Under the mutex.
func (c *Cache[V]) launch(key Key, reason Reason, parent *flight[V], turn chan struct{}, p Policy[V]) *flight[V] {
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	f := &flight[V]{
		cache: c, key: key.kept(), reason: reason, store: c.store, newerThan: c.flushed,
		parent: parent, turn: turn, hurried: parent != nil,
		hurry: make(chan struct{}), done: make(chan struct{}),
	}
	if f.hurried {
		close(f.hurry)
	}
	if e := c.find(key); e != nil && reason != Missing {
		if h := e.held.Load(); h.err == nil && h.value.Start().After(f.newerThan) {
			f.newerThan = h.value.Start()
		}
	}
	ctx, cancel := context.WithTimeout(context.WithValue(c.base, flightKey[V]{}, f), timeout)
	f.cancel = cancel
	c.flights[f.key] = f
	c.work.Add(1)
	go c.run(ctx, f, p)
	return f
}

func (c *Cache[V]) run(ctx context.Context, f *flight[V], p Policy[V]) {
	defer c.work.Done()
	began := c.cfg.Now()
	var v V
	var after func()
	src, err := Fetched, errNoResult
	defer func() {
		f.cancel()
		c.finish(f, v, src, err)
		if c.cfg.Observe != nil {
			c.cfg.Observe(Event{Key: f.key, Reason: f.reason, Source: src, Err: err, Took: c.cfg.Now().Sub(began)})
		}
		if after != nil {
			after()
		}
	}()
	v, src, after, err = c.attempt(ctx, f, p)
}

// attempt waits for its turn and fetches.
func (c *Cache[V]) attempt(ctx context.Context, f *flight[V], p Policy[V]) (v V, src Source, after func(), err error) {
	if f.turn == nil {
		select {
		case c.fetch <- struct{}{}:
			f.turn = c.fetch
		case <-f.hurry:
		case <-ctx.Done():
			return v, Fetched, nil, fmt.Errorf("waiting for one of %d fetches to end: %w", cap(c.fetch), context.Cause(ctx))
		}
	}
	defer func() {
		if f.turn != nil {
			<-f.turn
		}
		if r := recover(); r != nil {
			src, err = Fetched, &PanicError{Value: r, Stack: debug.Stack()}
		}
	}()
	c.mu.Lock()
	f.started = true
	c.mu.Unlock()
	return c.seek(ctx, f, p)
}

// finish keeps the result and wakes the waiters.
func (c *Cache[V]) finish(f *flight[V], v V, src Source, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.value, f.source, f.err = v, src, err
	defer close(f.done)
	if c.flights[f.key] == f {
		delete(c.flights, f.key)
	}
	c.stats.count(f.reason, src, err)
	if f.orphan || c.closed {
		return
	}
	now := c.now()
	if err == nil && c.install(f.key, v, now) {
		return
	}
	if e := c.find(f.key); e != nil {
		if h := e.held.Load(); h.usable(now) {
			if h.claimed() {
				e.failures++
				c.putOff(h, e.failures, now)
			}
			return
		}
	}
	if err != nil {
		c.remember(f.key, err, now)
	}
}

// wait waits for f, of which the caller was counted as a waiter. Who leaves
// early leaves the flight to the others, and to itself once it has its turn, unless
// its result would not be kept.
func (c *Cache[V]) wait(ctx context.Context, f *flight[V]) (V, Source, error) {
	select {
	case <-f.done:
		return f.value, f.source, f.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f.waiters--
	if f.waiters == 0 && (!f.started || f.orphan) {
		c.abandon(f)
		f.cancel()
	}
	var zero V
	return zero, "", ctx.Err()
}

// abandon parts f from its key: it may go on, but nobody joins it and its result
// is not kept. Under the mutex.
func (c *Cache[V]) abandon(f *flight[V]) {
	f.orphan = true
	if c.flights[f.key] == f {
		delete(c.flights, f.key)
	}
	if e := c.find(f.key); e != nil {
		if h := e.held.Load(); h.err == nil && h.claimed() {
			h.due.Store(c.now().steady) // nobody is at it any more
		}
	}
}

// board counts the caller as a waiter of f. A caller that is itself within a
// fetch holds a turn; the flight it waits for must not wait for that very turn.
// Under the mutex.
func (f *flight[V]) board(parent *flight[V]) {
	f.waiters++
	if parent != nil && !f.hurried {
		f.hurried = true
		close(f.hurry)
	}
}
