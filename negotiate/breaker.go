package negotiate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

const (
	// refusedPause is how long a refused password or key is not tried again.
	refusedPause = 30 * time.Minute
	// accountPause is how long the KDC is not asked again for an account that is
	// disabled, expired or unknown. Such a request carries no proof of a key and
	// locks nothing.
	accountPause = time.Minute
)

// RefusedError means that the KDC refused the credentials, or did not answer
// exchange.MaxProofs proofs of them, and that it is not asked again before Until, unless
// the file that they come from changes or the tickets are flushed.
type RefusedError struct {
	Until time.Time
	Err   error

	by *breaker // that opened
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("login not tried again before %s: %v", e.Until.UTC().Format(time.RFC3339), e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// breaker keeps a refused secret from being tried again and again, which would
// lock the account.
type breaker struct {
	now func() time.Time

	mu      sync.Mutex
	spent   int       // proofs of a key that were sent by failed logins since the last success
	refused time.Time // when the last of these logins failed
	open    *RefusedError
}

// forgive forgets proofs after the long pause, but not after the short one:
// else a KDC that locks the account after two would have it locked again and again.
// The caller holds the mutex.
func (b *breaker) forgive() {
	if b.spent > 0 && b.now().Sub(b.refused) >= refusedPause {
		b.spent = 0
	}
}

// state returns the error while the breaker is open, else nil.
func (b *breaker) state() *RefusedError {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open == nil || !b.now().Before(b.open.Until) {
		return nil
	}
	return b.open
}

// reset closes the breaker: a login succeeded, the secret changed, or the tickets
// were flushed.
func (b *breaker) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open, b.spent = nil, 0
}

// budget returns how many proofs the next login may send: those that are left, and at
// least one, because this is called while the breaker is closed.
func (b *breaker) budget() *exchange.Budget {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgive()
	return exchange.NewBudget(max(exchange.MaxProofs-b.spent, 1))
}

// record notes a login that failed with the budget, and returns the error to answer
// with. opened reports whether the breaker opened because of it.
//
// Every proof that was sent counts, whatever the KDC answered, because the answer may be
// forged. If it did not answer, an outage is likelier than a refusal, so that the pause is
// short. An outage costs one proof however long it lasts: after a failure a login proves a
// key only when a KDC has answered a request without pre-authentication.
func (b *breaker) record(err error, budget *exchange.Budget) (answer error, opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if budget.Sent() > 0 {
		b.forgive()
		b.spent += budget.Sent()
		b.refused = b.now()
	}
	if armors, ok := errors.AsType[*RefusedError](err); ok {
		b.open = armors // no login can be tried before the armor's account may log in
		return err, true
	}
	var e *krb5core.Error
	answered, pause := errors.As(err, &e) && e.Refused, time.Duration(0)
	if answered && e.Confirmed {
		pause = pauseAfter(e.Code)
	}
	if budget.Sent() > 0 && b.spent >= exchange.MaxProofs {
		pause = accountPause
		if answered {
			pause = refusedPause
		}
	}
	if login, ok := errors.AsType[*LoginError](err); ok && login.Kind == KindGMSA {
		// Such an account is not locked, and soon there may be another password.
		pause = min(pause, accountPause)
	}
	if pause == 0 {
		return err, false
	}
	b.open = &RefusedError{Until: b.now().Add(pause), Err: err, by: b}
	return b.open, true
}

// pauseAfter returns how long the KDC is not asked again after a refusal, 0 for a
// code that says nothing about the account.
func pauseAfter(code messages.ErrorCode) time.Duration {
	if code.KeyRefused() {
		return refusedPause
	}
	if code.CertificateRefused() {
		return accountPause
	}
	switch code {
	case messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, messages.KDC_ERR_POLICY, messages.KDC_ERR_CLIENT_REVOKED,
		messages.KDC_ERR_NAME_EXP, messages.KDC_ERR_KEY_EXPIRED, messages.KDC_ERR_ETYPE_NOSUPP:
		return accountPause
	}
	return 0
}

// KeytabArmor returns armor by the principal's keys of a keytab file, which is read for each login.
// The proofs of the process count together for each principal and file, however many identities use
// the armor.
func KeytabArmor(path string, principal messages.Principal) *krb5core.Armor {
	clock := krb5core.NewClock(nil)
	account := func() (*krb5core.Account, error) {
		file, err := ReadKeytab(path)
		if err != nil {
			return nil, err
		}
		keys, err := krb5core.KeytabKeys(file, principal)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return krb5core.NewAccount(principal, keys, clock), nil
	}
	key := armorKey{path, principal.Realm, principal.Name.String()}
	guard, _ := armorGuards.LoadOrStore(key, &armorGuard{path: path, logins: make(chan struct{}, 1), breaker: breaker{now: time.Now}})
	return krb5core.KeytabArmor(account, guard.(*armorGuard).run)
}

// armorGuards has an *armorGuard for each armorKey of the process. They hold no keys.
var armorGuards sync.Map

type armorKey struct{ path, realm, name string }

// armorGuard is the breaker of an account that provides armor.
type armorGuard struct {
	path    string
	breaker breaker
	logins  chan struct{} // one at a time; held for info too
	info    fs.FileInfo   // of the file at the last login
}

// run implements krb5core.ArmorGuard.
func (g *armorGuard) run(ctx context.Context, login func(*exchange.Budget) error) error {
	select {
	case g.logins <- struct{}{}:
		defer func() { <-g.logins }()
	case <-ctx.Done():
		return fmt.Errorf("waiting for another login with %s to end: %w", g.path, context.Cause(ctx))
	}
	if info, _ := os.Stat(g.path); !secretfile.Same(info, g.info) {
		g.info = info
		g.breaker.reset()
	}
	if refused := g.breaker.state(); refused != nil {
		return refused
	}
	budget := g.breaker.budget()
	err := login(budget)
	if err == nil {
		g.breaker.reset()
		return nil
	}
	answer, _ := g.breaker.record(err, budget)
	return answer
}
