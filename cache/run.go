package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

const defaultTimeout = 10 * time.Second // of a fetch

type reason int

const (
	missing    reason = iota // nothing usable was held
	refreshing               // the value held is near its end
	succeeding               // the value held was refused by a service
)

// PanicError is the error of a fetch that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("getting a ticket panicked: %v", e.Value) }

// RememberFor makes it a [Rememberer]: requests that run into the same fault do not
// flood the KDCs.
func (e *PanicError) RememberFor(int) time.Duration { return time.Second }

func (p Policy[V]) caught(r any) *PanicError {
	fault := &PanicError{Value: r, Stack: debug.Stack()}
	if p.OnPanic != nil {
		p.OnPanic(fault)
	}
	return fault
}

// errNoResult is the error of a fetch whose goroutine ended without returning.
var errNoResult = errors.New("getting a ticket ended without a result")

// fetch is one fetch under way, for all who wait for its key.
type fetch[V Value] struct {
	cache     *Cache[V]
	key       Key
	reason    reason
	store     Store[V]
	newerThan time.Time     // a stored value must have been obtained after this
	parent    *fetch[V]     // the fetch within which this one was requested
	slot      chan struct{} // whose slot it holds, nil for none
	cancel    context.CancelFunc
	hurry     chan struct{} // closed: it runs without a slot
	done      chan struct{} // closed: value, source and err are final

	value  V
	source Source
	err    error

	// Under the cache's mutex:
	waiters  int
	started  bool
	hurried  bool
	orphaned bool // its result is not kept
}

// fetchKey is the context key under which a fetch finds itself, to recognize
// fetches inside it.
type fetchKey[V Value] struct{}

func (c *Cache[V]) parentOf(ctx context.Context) *fetch[V] {
	if f, ok := ctx.Value(fetchKey[V]{}).(*fetch[V]); ok && f.cache == c {
		return f
	}
	return nil
}

// joinOrStart returns the fetch for key with the caller as a waiter; it starts one
// if there is none.
func (c locked[V]) joinOrStart(key Key, why reason, parent *fetch[V], p Policy[V]) *fetch[V] {
	f := c.fetches[key]
	if f == nil {
		f = c.start(key, why, parent, nil, p)
	}
	c.addWaiter(f, parent)
	return f
}

// addWaiter counts the caller as a waiter of f. A caller that is itself within a
// fetch holds a slot; f must not wait for that very slot.
func (c locked[V]) addWaiter(f, parent *fetch[V]) {
	f.waiters++
	if parent != nil && !f.hurried {
		f.hurried = true
		close(f.hurry)
	}
}

// start starts a fetch for key. slot is where it holds a slot already, nil if it
// has to wait for one.
func (c locked[V]) start(key Key, why reason, parent *fetch[V], slot chan struct{}, p Policy[V]) *fetch[V] {
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	f := &fetch[V]{
		cache: c.Cache, key: key.kept(), reason: why, store: c.store, newerThan: c.flushed.of(key.Identity),
		parent: parent, slot: slot, hurried: parent != nil,
		hurry: make(chan struct{}), done: make(chan struct{}),
	}
	if f.hurried {
		close(f.hurry)
	}
	if why == refreshing {
		f.waiters = 1 // the cache itself
	}
	if e := c.find(key); e != nil && why != missing {
		if h := e.held.Load(); h.err == nil && h.value.Start().After(f.newerThan) {
			f.newerThan = h.value.Start()
		}
	}
	ctx := context.WithValue(context.Background(), fetchKey[V]{}, f)
	ctx, f.cancel = context.WithTimeout(ctx, timeout) //nolint:gosec // run calls cancel
	c.fetches[f.key] = f
	go c.run(ctx, f, p)
	return f
}

func (c *Cache[V]) run(ctx context.Context, f *fetch[V], p Policy[V]) {
	var save func()
	f.source, f.err = Fetched, errNoResult
	defer func() {
		f.cancel()
		c.finish(f)
		if save != nil {
			defer func() {
				if r := recover(); r != nil {
					_ = p.caught(r) // the waiters have the value
				}
			}()
			save()
		}
	}()
	f.value, f.source, save, f.err = c.attempt(ctx, f, p)
}

// attempt waits for a slot and fetches. It returns what is left to do once the
// waiters have their answer, nil for nothing.
func (c *Cache[V]) attempt(ctx context.Context, f *fetch[V], p Policy[V]) (v V, src Source, save func(), err error) {
	if f.slot == nil {
		select {
		case c.fetchSlots <- struct{}{}:
			f.slot = c.fetchSlots
		case <-f.hurry:
		case <-ctx.Done():
			return v, Fetched, nil, fmt.Errorf("waiting for one of %d fetches to end: %w", cap(c.fetchSlots), context.Cause(ctx))
		}
	}
	defer func() {
		if f.slot != nil {
			<-f.slot
		}
		if r := recover(); r != nil {
			src, err = Fetched, p.caught(r)
		}
	}()
	l := c.lock()
	f.started = true
	l.unlock()
	return c.fetchThroughStore(ctx, f, p)
}

func (c *Cache[V]) finish(f *fetch[V]) {
	l := c.lock()
	defer l.unlock()
	defer close(f.done)
	if l.fetches[f.key] == f {
		delete(l.fetches, f.key)
	}
	if f.orphaned {
		return
	}
	now := l.now()
	if f.err == nil && l.install(f.key, f.value, now) {
		return
	}
	if e := l.find(f.key); e != nil {
		if h := e.held.Load(); h.usable(now) {
			if h.claimed() {
				e.failures++
				l.putOff(h, e.failures, now)
			}
			return
		}
	}
	if f.err != nil {
		l.remember(f.key, f.err, now)
	}
}

// wait waits for f, of which the caller was counted as a waiter. If the last caller
// leaves early, f is canceled if it has not begun or its result would not be kept.
func (c *Cache[V]) wait(ctx context.Context, f *fetch[V]) (v V, _ Source, _ error) {
	select {
	case <-f.done:
		return f.value, f.source, f.err
	case <-ctx.Done():
	}
	l := c.lock()
	defer l.unlock()
	f.waiters--
	if f.waiters == 0 && (!f.started || f.orphaned) {
		l.orphan(f)
		f.cancel()
	}
	return v, "", ctx.Err()
}

// orphan separates f from its key: it may continue, but no caller joins it and its
// result is not kept.
func (c locked[V]) orphan(f *fetch[V]) {
	f.orphaned = true
	if c.fetches[f.key] == f {
		delete(c.fetches, f.key)
	}
	if e := c.find(f.key); e != nil {
		if h := e.held.Load(); h.err == nil && h.claimed() {
			h.due.Store(c.now().steady)
		}
	}
}
