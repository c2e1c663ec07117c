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

// The values of cusec in use. All have an INTEGER encoding of three octets. The lower ones are kept for times out of
// the usual order.
const (
	cusecAside = 1 << 15 // first of the values set aside
	cusecFirst = 1 << 16 // first of the others
	cusecEnd   = 1_000_000

	asidePerSecond = cusecFirst - cusecAside
	ticksPerSecond = cusecEnd - cusecFirst
	maxAhead       = ticksPerSecond      // how far stamped time may run ahead
	maxExcess      = ticksPerSecond / 10 // beyond maxAhead: more than that is no haste but a step back in time
	maxJitter      = ticksPerSecond / 4
	shortestWait   = time.Millisecond
	nanosPerSecond = int64(time.Second)
)

// Stamp is an authenticator's time.
type Stamp struct {
	Second int64 // ctime in seconds since 1970
	Cusec  int32 // microseconds, 32768 to 999999
}

// CTime is the stamp's ctime.
func (s Stamp) CTime() time.Time { return time.Unix(s.Second, 0).UTC() }

// ClockConfig tells a Clock where time and chance come from. The zero value is for use outside of tests.
type ClockConfig struct {
	// Now is the time of this machine; nil means time.Now.
	Now func() time.Time
	// Offset is how far the realm's clock is ahead of Now, asked for every stamp; nil means always 0. It must be safe for
	// concurrent use and quick.
	Offset func() time.Duration
	// Wait waits, or returns an error because the context has ended; nil means a timer.
	Wait func(ctx context.Context, d time.Duration) error
	// Rand is asked once, for where stamps begin; nil means crypto/rand.
	Rand io.Reader
}

// A Clock gives every authenticator a time that no other one has: acceptors take a second authenticator of the same ctime
// and cusec, client and service for a replay (RFC 4120 3.2.3). So all tokens of one client for one service should get
// their times from one Clock. Sharing a Clock among services does no harm; it gives 934464 stamps a second, and beyond that
// rate runs up to a second ahead of real time, then waits. Stamps start up to a quarter of a second late, by chance, so
// that proxies with one identity and coarse clocks do not coincide.
//
// The usual stamp is one atomic exchange. Because no more than a million of these a second can succeed on one Clock, cores
// do not fight over it.
//
// When time steps back by more than a second (the machine's clock was set, the realm's offset was corrected), past stamps lie
// ahead, and cannot be told from free ones. Then, until time has caught up, stamps have values of cusec that are set aside,
// taken in turn; so have the stamps of StampAt. Of these there are 32768 a second.
//
// A Clock is safe for concurrent use.
type Clock struct {
	cfg    ClockConfig
	jitter int64        // ticks that stamps are late
	last   atomic.Int64 // tick of the latest stamp in the usual order

	aside struct {
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
	if cfg.Wait == nil {
		cfg.Wait = waitTimer
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	var b [8]byte
	if _, err := io.ReadFull(cfg.Rand, b[:]); err != nil {
		return nil, err
	}
	c := &Clock{cfg: cfg, jitter: int64(binary.BigEndian.Uint32(b[:])) % maxJitter}
	c.aside.next = cusecAside + int32(binary.BigEndian.Uint32(b[4:])%asidePerSecond)
	return c, nil
}

// Stamp returns a stamp of the realm's present time. It waits only beyond the rate that the Clock can give, until there is
// a stamp or ctx ends; that is the only error.
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
		if err := c.cfg.Wait(ctx, shortestWait); err != nil {
			return Stamp{}, err
		}
	}
}

// StampAt returns a stamp of the time that a clock shows which is offset ahead of this machine's, whatever the realm's
// offset: for the one repeat that goes by the acceptor's clock. Seconds only count.
func (c *Clock) StampAt(ctx context.Context, offset time.Duration) (Stamp, error) {
	for {
		now := c.cfg.Now()
		if cusec, ok := c.takeAside(now.Unix()); ok {
			// Whole seconds, so that what is counted by seconds of real time holds for those of stamped time.
			return Stamp{now.Unix() + int64(offset/time.Second), cusec}, nil
		}
		if err := c.cfg.Wait(ctx, max(shortestWait, time.Second-time.Duration(now.Nanosecond()))); err != nil {
			return Stamp{}, err
		}
	}
}

// takeAside takes the next of the values set aside, if this second has not had them all.
func (c *Clock) takeAside(second int64) (cusec int32, ok bool) {
	a := &c.aside
	a.Lock()
	defer a.Unlock()
	if a.second != second {
		a.second, a.used = second, 0
	}
	if a.used == asidePerSecond {
		return 0, false
	}
	cusec = a.next
	a.used++
	if a.next++; a.next == cusecFirst {
		a.next = cusecAside
	}
	return cusec, true
}

// tickOf counts stamps from 1970 to t: as many to a second as there are values of cusec, evenly spread.
func tickOf(t time.Time) int64 {
	return t.Unix()*ticksPerSecond + int64(t.Nanosecond())*ticksPerSecond/nanosPerSecond
}

// waitTimer waits by the real clock.
func waitTimer(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
