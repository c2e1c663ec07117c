package krb5core

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// maxRealms bounds the realms of a clock. Realms come from the configuration
// and out of authenticated referrals, so more than a few mean a fault.
const maxRealms = 256

// A Clock returns the time of a realm's KDCs: local time and the offset that was learnt from them
// (RFC 4120, Section 3.1.3: a KRB_AP_ERR_SKEW carries the server's time). It is safe for concurrent
// use.
type Clock struct {
	now func() time.Time
	mu  sync.Mutex // held while learning
	// offsets by realm, replaced as a whole because it is read for every token.
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

// Now is the time in the realm.
func (c *Clock) Now(realm string) time.Time { return c.now().Add(c.Offset(realm)) }

// Offset is the realm's clock minus the local one; zero until another was learnt.
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
