package kdctest

import (
	"sync"
	"time"
)

// replayCache stores authenticators by client, ctime and cusec as long as their time
// is acceptable (RFC 4120, Section 3.2.3).
type replayCache struct {
	mu    sync.Mutex
	until map[replayKey]time.Time
	sweep time.Time
}

type replayKey struct {
	client, service string
	ctime           int64
	cusec           int32
}

// seen stores an authenticator and reports whether it was stored before.
func (c *replayCache) seen(key replayKey, now time.Time, keep time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until == nil {
		c.until = make(map[replayKey]time.Time)
	}
	if now.After(c.sweep) {
		for k, t := range c.until {
			if now.After(t) {
				delete(c.until, k)
			}
		}
		c.sweep = now.Add(keep)
	}
	if t, ok := c.until[key]; ok && !now.After(t) {
		return true
	}
	// A client's clock may be ahead by the skew: its authenticator is then
	// acceptable for twice as long.
	c.until[key] = now.Add(2 * keep)
	return false
}
