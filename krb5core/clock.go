package krb5core

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// maxRealms bounds what a clock remembers. Realms come from the configuration
// and out of authenticated referrals, so more than a few mean a fault.
const maxRealms = 256

// A Clock tells what time it is for the KDCs of a realm: our own time and the
// offset that was learnt from them (RFC 4120 3.1.3: a KRB_AP_ERR_SKEW carries the
// server's time). It is safe for concurrent use.
type Clock struct {
	now func() time.Time
	mu  sync.Mutex // of those who learn
	// offsets by realm, replaced as a whole: it is read for every token.
	offsets atomic.Pointer[map[string]time.Duration]
}

// NewClock returns a clock on top of now, time.Now if nil.
func NewClock(now func() time.Time) *Clock {
	if now == nil {
		now = time.Now
	}
	c := &Clock{now: now}
	c.offsets.Store(new(map[string]time.Duration))
	return c
}

// Local is our own time.
func (c *Clock) Local() time.Time { return c.now() }

// Now is the time in the realm.
func (c *Clock) Now(realm string) time.Time { return c.now().Add(c.Offset(realm)) }

// Offset is by how much the realm's clock is ahead of ours; zero until
// something else was learnt.
func (c *Clock) Offset(realm string) time.Duration {
	return (*c.offsets.Load())[realm]
}

// Offsets are those of all realms of which one was learnt. Callers do not modify
// the map.
func (c *Clock) Offsets() map[string]time.Duration { return *c.offsets.Load() }

// Learn sets the realm's offset. Only what a decrypted reply has confirmed
// belongs here: a KRB-ERROR's time is a hint that anyone may forge.
func (c *Clock) Learn(realm string, offset time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := *c.offsets.Load()
	if _, known := old[realm]; !known && len(old) >= maxRealms {
		return
	}
	offsets := make(map[string]time.Duration, len(old)+1)
	maps.Copy(offsets, old)
	offsets[realm] = offset
	c.offsets.Store(&offsets)
}
