package negotiate

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// The errors of a request that is answered without asking a KDC or an upstream.
var (
	// ErrMethodRefused is returned for methods whose response repeats the request's
	// header, and with it the token.
	ErrMethodRefused = errors.New("TRACE and TRACK echo the request, and with it the token")
	// ErrSPNNotAllowed is returned for a service that allow_spns does not list.
	ErrSPNNotAllowed = errors.New("the service is not among allow_spns")
	// ErrUserMissing is returned if impersonate evaluates to no name.
	ErrUserMissing = errors.New("impersonate yields no user: who is signed in?")
	// ErrUserDenied is returned for a user that allow_users and deny_users exclude.
	ErrUserDenied = errors.New("the user may not be impersonated by allow_users and deny_users")
	// ErrAccountUnknown is an ErrUserDenied for a user whose account deny_users needs to
	// know.
	ErrAccountUnknown = fmt.Errorf("%w: no key of ours opens the user's ticket, which names the account", ErrUserDenied)
	// ErrUpstreamName is returned for an upstream whose address is not a host name,
	// so that no service principal follows from it.
	ErrUpstreamName = errors.New("the upstream's address is no host name: set spn HTTP/host")
	// ErrNoBinding is returned for a connection without a channel binding where one
	// is required.
	ErrNoBinding = errors.New("the connection offers nothing to bind the token to")
)

// UserError is an error about one user, with the name as the user signed in: logs
// show it, responses do not.
type UserError struct {
	Name string
	Err  error
}

func (e *UserError) Error() string { return e.Err.Error() }
func (e *UserError) Unwrap() error { return e.Err }

// How long failures are remembered, so that requests do not wait again for what just failed, and no
// KDC is flooded. The pauses double between these bounds:
const (
	outageShortest  = time.Second
	outageLongest   = 15 * time.Second
	missingLongest  = 10 * time.Second // a credential cache that is not filled
	refusalShortest = 30 * time.Second // an unknown service, and the like
	refusalLongest  = 10 * time.Minute
)

// failure is an error that the cache remembers for a while.
type failure struct {
	err               error
	shortest, longest time.Duration
	now               func() time.Time
	until             atomic.Int64 // when it is forgotten, in nanoseconds since 1970
}

// remembered wraps an error that is to be remembered. A refusal that is not confirmed is remembered
// no longer than an outage.
func remembered(err error, now func() time.Time) error {
	if _, ok := errors.AsType[*failure](err); ok {
		return err // already wrapped at its source
	}
	if _, ok := errors.AsType[*RefusedError](err); ok {
		return err // the breaker remembers it
	}
	if errors.Is(err, ErrCCache) || errors.Is(err, ErrNoCertificate) {
		return &failure{err: err, shortest: outageShortest, longest: missingLongest, now: now}
	}
	var e *krb5core.Error
	if errors.As(err, &e) && e.Refused && e.Confirmed && e.Code != messages.KDC_ERR_SVC_UNAVAILABLE {
		return &failure{err: err, shortest: refusalShortest, longest: refusalLongest, now: now}
	}
	return &failure{err: err, shortest: outageShortest, longest: outageLongest, now: now}
}

// uncached wraps an error already cached at its source so that it is not cached again.
func uncached(err error) error {
	return &failure{err: err}
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// RememberFor implements cache.Rememberer.
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

// RetryAfter returns after what time a request that failed with err may succeed, at least a second;
// zero if unknown.
func RetryAfter(err error, now time.Time) time.Duration {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return max(refused.Until.Sub(now), time.Second)
	}
	if throttled, ok := errors.AsType[*ThrottledError](err); ok {
		return max(throttled.Until.Sub(now), time.Second)
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

// Remembered reports whether err came from the acquisition of a ticket.
func Remembered(err error) bool {
	var f *failure
	return errors.As(err, &f)
}
