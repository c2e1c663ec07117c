package cache

import (
	"context"
	"errors"
	"time"
)

// ErrRationed is returned instead of a successor when a service has refused one
// value after the other: it is not the ticket, then.
var ErrRationed = errors.New("ticket was refused repeatedly, no new one is fetched for a while")

const (
	// successors in a row before they are rationed.
	successors = 3
	// ration is the pause between later ones, and between two confirmations
	// that count: whoever can make a service refuse good tickets on one path
	// and use them on another could otherwise have them fetched without end.
	ration = 30 * time.Second
)

// suspicion is the account of refusals of one key. Times are steady.
type suspicion struct {
	row     int   // successors asked for since the last confirmation
	last    int64 // when the last one was
	cleared int64 // when a confirmation counted last
}

// allow reports whether a successor may be fetched now, and counts it.
func (s *suspicion) allow(now instant) bool {
	if s.row >= successors && now.steady-s.last < int64(ration) {
		return false
	}
	s.row++
	s.last = now.steady
	return true
}

// Successor is called by who was refused with the value refused: it returns the
// one that took its place meanwhile, or waits for a new one. Others go on using
// the refused one until then, and if none can be had. There are three in a row
// for a key and then one in 30 s, else ErrRationed; Confirm starts the count
// anew.
func (c *Cache[V]) Successor(ctx context.Context, key Key, refused V, p Policy[V]) (V, Source, error) {
	v, f, err := c.replace(ctx, key, refused, p)
	if f == nil {
		return v, Cached, err
	}
	return c.wait(ctx, f)
}

// Suspect is Successor for who does not need the new value: it starts the fetch,
// if one is due to the key, and does not wait. It reports whether a newer value
// is there or on its way.
func (c *Cache[V]) Suspect(key Key, refused V, p Policy[V]) bool {
	_, _, err := c.replace(context.Background(), key, refused, p)
	return err == nil
}

// replace finds the newer value, or the flight that brings it.
func (c *Cache[V]) replace(ctx context.Context, key Key, refused V, p Policy[V]) (V, *flight[V], error) {
	var zero V
	if err := ctx.Err(); err != nil {
		return zero, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return zero, nil, ErrClosed
	}
	parent, now := c.parentOf(ctx), c.now()
	e := c.find(key)
	if e != nil {
		if h := e.held.Load(); h.usable(now) {
			if h.value != refused {
				c.touch(e, h)
				return h.value, nil, nil
			}
			h.suspect = true
		}
	}
	f := c.flights[key]
	if f == nil {
		if e != nil && !e.allow(now) {
			return zero, nil, ErrRationed
		}
		f = c.launch(key, Succeeding, parent, nil, p)
	}
	f.board(parent)
	return zero, f, nil
}

// Confirm tells that a service accepted value. It is to be called after a
// repeat with a successor went well; at other times it does nothing.
func (c *Cache[V]) Confirm(key Key, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, now := c.find(key), c.now()
	if e == nil || e.row == 0 || e.held.Load().value != value {
		return
	}
	if e.cleared == 0 || now.steady-e.cleared >= int64(ration) {
		e.row, e.cleared = 0, now.steady
	}
}
