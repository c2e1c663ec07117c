package negotiate

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

const (
	// mostPreAuths is how many pre-authenticated requests may be refused before
	// nothing more is sent: domains lock accounts after as few as five, and
	// others use the account too.
	mostPreAuths = 3
	// refusedPause is how long a refused password or key is not tried again.
	refusedPause = 30 * time.Minute
	// accountPause is how long an account that is disabled, expired or unknown
	// is not asked for again. Asking is a bare AS-REQ, which locks nothing.
	accountPause = time.Minute
)

// RefusedError says that the KDC refused our credentials, and that it is not
// asked again before Until, unless the file that they come from changes or the
// tickets are flushed.
type RefusedError struct {
	Until time.Time
	Err   error
}

// Error tells the cause and the pause.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("credentials refused, not tried again before %s: %v", e.Until.UTC().Format(time.RFC3339), e.Err)
}

// Unwrap gives the KDC's refusal.
func (e *RefusedError) Unwrap() error { return e.Err }

// breaker keeps a refused secret from being tried again and again, which would
// lock the account.
type breaker struct {
	now func() time.Time

	mu      sync.Mutex
	spent   int       // refused pre-authenticated requests since the last success
	refused time.Time // when the last of them was
	open    *RefusedError
}

// allow gives the error to answer with while the breaker is open.
func (b *breaker) allow() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open == nil {
		return nil
	}
	if b.now().Before(b.open.Until) {
		return b.open
	}
	b.open = nil
	return nil
}

// forgive forgets refused keys after the long pause, and not after the short one: a
// KDC that locks the account after two would otherwise have it locked again and
// again. Under the mutex.
func (b *breaker) forgive() {
	if b.spent > 0 && b.now().Sub(b.refused) >= refusedPause {
		b.spent = 0
	}
}

// state is the error while the breaker is open, else nil.
func (b *breaker) state() *RefusedError {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open == nil || !b.now().Before(b.open.Until) {
		return nil
	}
	return b.open
}

// reset closes it: a login succeeded, the secret changed, or somebody flushed.
func (b *breaker) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open, b.spent = nil, 0
}

// record takes note of a login that failed, and gives the error to answer with.
// opened tells whether the breaker opened by it.
func (b *breaker) record(err error) (answer error, opened bool) {
	var e *krb5core.Error
	if !errors.As(err, &e) || !e.Refused {
		return err, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.KeysRefused > 0 {
		b.forgive()
		b.spent += e.KeysRefused
		b.refused = b.now()
	}
	var pause time.Duration
	switch e.Code {
	case messages.KDC_ERR_PREAUTH_FAILED, messages.KRB_AP_ERR_BAD_INTEGRITY:
		pause = refusedPause
	case messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, messages.KDC_ERR_POLICY, messages.KDC_ERR_CLIENT_REVOKED,
		messages.KDC_ERR_NAME_EXP, messages.KDC_ERR_KEY_EXPIRED, messages.KDC_ERR_ETYPE_NOSUPP:
		pause = accountPause
	default:
		return err, false
	}
	switch {
	case b.spent >= mostPreAuths:
		pause = refusedPause
	case !e.Confirmed:
		return err, false
	}
	b.open = &RefusedError{Until: b.now().Add(pause), Err: err}
	return b.open, true
}

// left is how many pre-authenticated requests may still be refused: one at least,
// for while there is none the breaker is open.
func (b *breaker) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgive()
	return max(mostPreAuths-b.spent, 1)
}
