package negotiate

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// How long failures are remembered: nobody waits again for what was in vain a
// moment ago, and no KDC is flooded. The pauses double, from and to:
const (
	outageShortest  = time.Second
	outageLongest   = 15 * time.Second
	refusalShortest = 30 * time.Second // an unknown service, and the like
	refusalLongest  = 10 * time.Minute
)

// failure is an error that may be remembered for a while.
type failure struct {
	err               error
	shortest, longest time.Duration
	now               func() time.Time
	until             atomic.Int64 // when it is forgotten, in nanoseconds since 1970
}

// remembered says how long an error is to be remembered. What a KDC has not
// confirmed is not believed for longer than an outage.
func remembered(err error, now func() time.Time) error {
	if _, ok := errors.AsType[*failure](err); ok {
		return err // it is remembered where it occurred
	}
	if _, ok := errors.AsType[*RefusedError](err); ok {
		return err // the breaker remembers it
	}
	var e *krb5core.Error
	if errors.As(err, &e) && e.Refused && e.Confirmed && e.Code != messages.KDC_ERR_SVC_UNAVAILABLE {
		return &failure{err: err, shortest: refusalShortest, longest: refusalLongest, now: now}
	}
	return &failure{err: err, shortest: outageShortest, longest: outageLongest, now: now}
}

// passing says that an error is remembered elsewhere and must not be twice.
func passing(err error) error {
	return &failure{err: err}
}

// Error is the cause's.
func (f *failure) Error() string { return f.err.Error() }

// Unwrap gives the cause.
func (f *failure) Unwrap() error { return f.err }

// RememberFor makes a cache.Rememberer of it.
func (f *failure) RememberFor(n int) time.Duration {
	if f.shortest == 0 {
		return 0
	}
	pause := f.shortest
	for i := 1; i < n && pause < f.longest; i++ {
		pause *= 2
	}
	pause = min(pause, f.longest)
	f.until.Store(f.now().Add(pause).UnixNano())
	return pause
}

// RetryAfter tells in how much time it makes sense to ask again for what failed
// with err, at least a second; zero if nothing is known.
func RetryAfter(err error, now time.Time) time.Duration {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return max(refused.Until.Sub(now), time.Second)
	}
	for err != nil {
		var f *failure
		if !errors.As(err, &f) {
			return 0
		}
		if until := f.until.Load(); until != 0 {
			return max(time.Unix(0, until).Sub(now), time.Second)
		}
		err = f.err
	}
	return 0
}

// Remembered tells whether err came from the acquisition of a ticket.
func Remembered(err error) bool {
	var f *failure
	return errors.As(err, &f)
}
