package negotiate

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-negotiate/caddy-negotiate/internal/sspi"
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
	// ErrTicketGone is returned for a user whose ticket has ended, or is not held any more:
	// they have to sign in again.
	ErrTicketGone = errors.New("the ticket that the user signed in with has ended, or is not held any more")
	// ErrOtherAccount is returned for a user who has signed in to another account than the
	// one that is to impersonate them.
	ErrOtherAccount = errors.New("the user has signed in to another account, whose tickets are no evidence for this one")
	// ErrUserDenied is returned for a user that allow_users and deny_users exclude.
	ErrUserDenied = errors.New("the user may not be impersonated by allow_users and deny_users")
	// ErrAccountUnknown is an ErrUserDenied for a user whose account deny_users needs to
	// know.
	ErrAccountUnknown = fmt.Errorf("%w: no key of ours opens the user's ticket, which names the account", ErrUserDenied)
	// ErrUpstreamName is returned for an upstream whose address is not a host name,
	// so that no service principal follows from it.
	ErrUpstreamName = errors.New("the upstream's address is not a host name: set spn HTTP/host")
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

// EvidenceError is about a ticket that a user signed in with and that did not lead to a
// ticket for the service.
type EvidenceError struct {
	// Forwardable is a flag of the user's ticket. Without it only the service's account can
	// permit the delegation (resource-based).
	Forwardable bool
	Err         error
}

func (e *EvidenceError) Error() string { return e.Err.Error() }
func (e *EvidenceError) Unwrap() error { return e.Err }

// How long failures are remembered, so that requests do not wait again for what just failed, and no
// KDC is flooded. The pauses double between these bounds:
const (
	outageShortest  = time.Second
	outageLongest   = 15 * time.Second
	missingLongest  = 10 * time.Second // credentials that are not there, as of a cache that is not filled
	refusalShortest = 30 * time.Second // an unknown service, and the like
	refusalLongest  = 10 * time.Minute
)

// failure is an error that the cache remembers for a while.
type failure struct {
	err               error
	shortest, longest time.Duration
	now               func() time.Time
	until             atomic.Int64 // when it is forgotten, in nanoseconds since 1970
	reported          atomic.Bool  // the identity's observer knows it
}

// reported marks a failure that was observed as an event of the identity.
func reported(err error) error {
	if f, ok := errors.AsType[*failure](err); ok {
		f.reported.Store(true)
	}
	return err
}

// Reported reports whether an error, or the one that it repeats, was observed as an event of the
// identity ([LoginFailed], [TicketFailed], [FetchPanicked]).
func Reported(err error) bool {
	if _, ok := errors.AsType[*RefusedError](err); ok || panicked(err) {
		return true
	}
	for err != nil {
		var f *failure
		if !errors.As(err, &f) {
			return false
		}
		if f.reported.Load() {
			return true
		}
		err = f.err
	}
	return false
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
	windows, isWindows := errors.AsType[*sspi.Error](err)
	_, unread := errors.AsType[*PasswordError](err)
	if unread || errors.Is(err, ErrCCache) || errors.Is(err, ErrNoCertificate) || isWindows && windows.Status.Missing() {
		return &failure{err: err, shortest: outageShortest, longest: missingLongest, now: now}
	}
	if isWindows && windows.Status.Unknown() {
		return &failure{err: err, shortest: refusalShortest, longest: refusalLongest, now: now}
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

// Bounds of what clients can make an identity ask for by inventing names of services.
const (
	unknownRate  = 10 // answers "unknown" a second
	unknownBurst = 50 // at once
	// maxKnownSPNs bounds the names that are remembered as known.
	maxKnownSPNs = 10_000
)

// ThrottledError means that the KDC was not asked for a service that the client chose and that it
// has not issued a ticket for before, because it has not known too many of those asked for.
type ThrottledError struct {
	SPN   SPN
	Until time.Time // when the KDC is asked again
}

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("%s is not asked for before %s: the KDC did not know too many of the services that clients chose",
		e.SPN, e.Until.UTC().Format(time.RFC3339Nano))
}

// unknownServices bounds the requests for services that clients choose and the KDC does not know.
// Answers that it does not know a service are what counts, so that many known ones can be asked
// for at once. Requests that are under way when the bound is reached are answered: their answers
// are debts.
type unknownServices struct {
	now    func() time.Time
	bucket *rate.Limiter

	mu    sync.Mutex
	known map[string]struct{} // services that the KDC issued a ticket for
}

func newUnknownServices(now func() time.Time) *unknownServices {
	return &unknownServices{now: now, bucket: rate.NewLimiter(unknownRate, unknownBurst), known: make(map[string]struct{})}
}

// admit returns an error if the KDC must not be asked for the target now.
func (u *unknownServices) admit(t *Target) error {
	if !t.ByClient || u.isKnown(t.SPN) {
		return nil
	}
	now := u.now()
	missing := 1 - u.bucket.TokensAt(now)
	if missing <= 0 {
		return nil
	}
	wait := time.Duration(missing / unknownRate * float64(time.Second))
	return uncached(&ThrottledError{SPN: t.SPN, Until: now.Add(wait)})
}

// answered records how a request for the service ended.
func (u *unknownServices) answered(spn SPN, err error) {
	if err == nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		if len(u.known) < maxKnownSPNs {
			u.known[spn.principal.String()] = struct{}{}
		}
		return
	}
	if !unknownService(err) {
		return
	}
	u.bucket.ReserveN(u.now(), 1)
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.known, spn.principal.String())
}

// unknownService reports whether the KDC does not know the service. (Of OpS4USelf it is our own
// account that is not known as one.)
func unknownService(err error) bool {
	if e, ok := errors.AsType[*sspi.Error](err); ok {
		return e.Status.Unknown()
	}
	e, ok := errors.AsType[*krb5core.Error](err)
	return ok && e.Refused && e.Code == messages.KDC_ERR_S_PRINCIPAL_UNKNOWN && e.Op != krb5core.OpS4USelf
}

func (u *unknownServices) isKnown(spn SPN) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.known[spn.principal.String()]
	return ok
}
