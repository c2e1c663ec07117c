package negotiate

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

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
	e, ok := errors.AsType[*krb5core.Error](err)
	if !ok || !e.Refused || e.Code != messages.KDC_ERR_S_PRINCIPAL_UNKNOWN || e.Op == krb5core.OpS4USelf {
		return // of OpS4USelf it is our own account that is not known as a service
	}
	u.bucket.ReserveN(u.now(), 1)
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.known, spn.principal.String())
}

func (u *unknownServices) isKnown(spn SPN) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.known[spn.principal.String()]
	return ok
}
