package gss

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// The values of cusec in use. All have an INTEGER encoding of three bytes. The lower ones are
// reserved for times out of the usual order.
const (
	cusecReserved = 1 << 15 // first of the reserved values
	cusecFirst    = 1 << 16 // first of the others
	cusecEnd      = 1_000_000

	reservedPerSecond = cusecFirst - cusecReserved
	ticksPerSecond    = cusecEnd - cusecFirst
	maxAhead          = ticksPerSecond      // how far stamps may run ahead
	maxExcess         = ticksPerSecond / 10 // beyond maxAhead: more means that the clock was set back
	maxJitter         = ticksPerSecond / 4
	shortestWait      = time.Millisecond
	nanosPerSecond    = int64(time.Second)
)

// Stamp is an authenticator's time.
type Stamp struct {
	Second int64 // ctime in seconds since 1970
	Cusec  int32 // microseconds, 32768 to 999999
}

// CTime is the stamp's ctime.
func (s Stamp) CTime() time.Time { return time.Unix(s.Second, 0).UTC() }

// ClockConfig has the time and random sources of a Clock. The zero value is for use outside of
// tests.
type ClockConfig struct {
	// Now is the time of this machine; nil means time.Now.
	Now func() time.Time
	// Offset is the realm's clock minus Now, called for every stamp; nil means always 0. It must be
	// safe for concurrent use and fast.
	Offset func() time.Duration
	// Rand is read once, for the delay of stamps; nil means crypto/rand.
	Rand io.Reader
}

// A Clock returns a unique time for each authenticator: acceptors treat a second authenticator of
// the same ctime, cusec, client and service as a replay (RFC 4120, Section 3.2.3). So all tokens of
// one client for one service should get their times from one Clock. Services may share a Clock; it
// returns 934464 stamps a second, and beyond that rate runs up to a second ahead of real time, then
// waits. Stamps are late by a random delay of up to a quarter of a second, so that proxies with one
// identity and coarse clocks do not coincide.
//
// The usual stamp is one atomic exchange. Since at most a million of these a second succeed on one
// Clock, cores hardly contend for it.
//
// When time steps back by more than a second (the machine's clock was set, the realm's offset was
// corrected), past stamps lie ahead, and cannot be distinguished from unused ones. Until time has
// caught up, stamps then have reserved values of cusec, used in turn; so do the stamps of StampAt.
// Of these there are 32768 a second.
//
// A Clock is safe for concurrent use.
type Clock struct {
	cfg    ClockConfig
	jitter int64        // ticks that stamps are late
	last   atomic.Int64 // tick of the latest stamp in the usual order

	reserved struct {
		sync.Mutex
		second int64 // of real time
		used   int   // in that second
		next   int32 // the next value of cusec
	}
}

// NewClock returns a clock. The error is that of cfg.Rand.
func NewClock(cfg ClockConfig) (*Clock, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Offset == nil {
		cfg.Offset = func() time.Duration { return 0 }
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	var b [8]byte
	if _, err := io.ReadFull(cfg.Rand, b[:]); err != nil {
		return nil, err
	}
	c := &Clock{cfg: cfg, jitter: int64(binary.BigEndian.Uint32(b[:])) % maxJitter}
	c.reserved.next = cusecReserved + int32(binary.BigEndian.Uint32(b[4:])%reservedPerSecond)
	return c, nil
}

// Stamp returns a stamp of the realm's present time. It waits only beyond the Clock's rate, until
// there is a stamp or ctx ends; that is the only error.
func (c *Clock) Stamp(ctx context.Context) (Stamp, error) {
	for {
		offset := c.cfg.Offset()
		now := c.cfg.Now().Add(offset)
		tick := tickOf(now) - c.jitter
		for {
			last := c.last.Load()
			next := max(tick, last+1)
			if excess := next - tick - maxAhead; excess > maxExcess {
				return c.StampAt(ctx, offset)
			} else if excess > 0 {
				break
			}
			if c.last.CompareAndSwap(last, next) {
				return Stamp{next / ticksPerSecond, cusecFirst + int32(next%ticksPerSecond)}, nil
			}
		}
		if err := wait(ctx, shortestWait); err != nil {
			return Stamp{}, err
		}
	}
}

// StampAt returns a stamp by a clock that is offset ahead of this machine's, regardless of the
// realm's offset: for the one repeat that uses the acceptor's clock. Only whole seconds of offset
// count.
func (c *Clock) StampAt(ctx context.Context, offset time.Duration) (Stamp, error) {
	for {
		now := c.cfg.Now()
		if cusec, ok := c.takeReserved(now.Unix()); ok {
			// Whole seconds, so that the count per second of real time holds per second of stamped
			// time.
			return Stamp{now.Unix() + int64(offset/time.Second), cusec}, nil
		}
		if err := wait(ctx, max(shortestWait, time.Second-time.Duration(now.Nanosecond()))); err != nil {
			return Stamp{}, err
		}
	}
}

// takeReserved returns the next of the reserved values, unless this second has had them all.
func (c *Clock) takeReserved(second int64) (cusec int32, ok bool) {
	r := &c.reserved
	r.Lock()
	defer r.Unlock()
	if r.second != second {
		r.second, r.used = second, 0
	}
	if r.used == reservedPerSecond {
		return 0, false
	}
	cusec = r.next
	r.used++
	if r.next++; r.next == cusecFirst {
		r.next = cusecReserved
	}
	return cusec, true
}

// tickOf counts stamps from 1970 to t: as many to a second as there are values of cusec, evenly
// spread.
func tickOf(t time.Time) int64 {
	return t.Unix()*ticksPerSecond + int64(t.Nanosecond())*ticksPerSecond/nanosPerSecond
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
