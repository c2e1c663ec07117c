package cache

import (
	"errors"
	"time"
)

// Rememberer is an error that may be remembered: RememberFor says how long the
// n-th failure in a row (from 1) for one key is to be served without another
// attempt. 0 means not at all. Who wants the pauses to grow lets them grow with
// n.
type Rememberer interface {
	error
	RememberFor(n int) time.Duration
}

func askError(err error, n int) time.Duration {
	if r, ok := errors.AsType[Rememberer](err); ok {
		return r.RememberFor(n)
	}
	return 0
}

// errorWeight is reckoned for a remembered error beside its text, in bytes:
// what it wraps cannot be measured.
const errorWeight = 512

// remember holds err for key, if it is one to be remembered. A value that can
// still be used is never displaced. Under the mutex.
func (c *Cache[V]) remember(key Key, err error, now instant) {
	n := 1
	if e := c.find(key); e != nil {
		h := e.held.Load()
		if h.usable(now) {
			return
		}
		if h.err != nil && !h.over(now) {
			n = h.failures + 1
		}
	}
	pause := c.cfg.Remember(err, n)
	if pause <= 0 {
		return
	}
	h := &held[V]{err: err, failures: n}
	h.due.Store(now.steady + int64(pause))
	e := c.hang(key, h, &c.negatives, c.weight+key.size()+errorWeight+int64(len(err.Error())))
	c.sweep(now)
	c.enforce(e)
}
