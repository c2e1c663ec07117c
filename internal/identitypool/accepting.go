package identitypool

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
)

// Acceptor verifies the tokens of clients with the keys of an identity and the settings of one
// block. The keys belong to the identity, so that a reload keeps those that were replaced.
type Acceptor struct {
	ref  *Ref
	core *accept.Acceptor
}

// Acceptor returns an acceptor. Its keys and its encryption types are the identity's and the
// block's, in place of those of cfg. With anyName the account's own keys open tickets for any of
// cfg's services, not only those that the keytab lists under the service's name.
func (r *Ref) Acceptor(cfg accept.Config, anyName bool) (*Acceptor, error) {
	cfg.Keys, cfg.ETypes = serviceKeys{&r.identity.accepting, anyName}, r.resolved.ETypes
	core, err := accept.New(cfg)
	if err != nil {
		return nil, err
	}
	return &Acceptor{r, core}, nil
}

// Account is the account whose keys open the tickets.
func (a *Acceptor) Account() messages.Principal { return a.ref.identity.Configured() }

// Accept verifies a token. The error is an [accept.Error], or says why the account's keys
// cannot be had.
func (a *Acceptor) Accept(ctx context.Context, r accept.Request) (*accept.Result, error) {
	keys := &a.ref.identity.accepting
	if err := keys.load(ctx, a.ref, false); err != nil {
		return nil, err
	}
	result, err := a.core.Accept(r)
	// The keys may have changed a moment ago.
	if e, ok := errors.AsType[*accept.Error](err); ok && e.Reason.OfKeys() && keys.load(ctx, a.ref, true) == nil {
		return a.core.Accept(r)
	}
	return result, err
}

// serviceKeys are the keys for tickets to the services of a block.
type serviceKeys struct {
	keys    *accepting
	anyName bool
}

// KeysFor implements accept.Keys.
func (s serviceKeys) KeysFor(service messages.Principal) []*accept.Key {
	now := s.keys.clock()
	keys := s.keys.ring.KeysFor(service, now)
	if own := s.keys.own.Load(); len(keys) == 0 && s.anyName && own != nil {
		return s.keys.ring.KeysFor(*own, now)
	}
	return keys
}

// accepting has the keys by which an identity opens tickets.
type accepting struct {
	ring accept.Ring
	own  atomic.Pointer[messages.Principal] // whose keys in the ring are the account's
	now  func() time.Time                   // nil means time.Now

	checked atomic.Int64  // when the secret was last looked at, in nanoseconds since 1970
	loading chan struct{} // holds one value, whose sender may use what follows

	accounts []*krb5core.Account // whose keys are in the ring, unless failed
	asked    time.Time           // when the KDC was asked last, or the files were read
	pause    time.Duration       // after a failure, until the KDC is asked again
	failed   error
}

func newAccepting() accepting { return accepting{loading: make(chan struct{}, 1)} }

func (a *accepting) clock() time.Time {
	if a.now == nil {
		return time.Now()
	}
	return a.now()
}

// How often the secret is looked at, what a KDC says of a password is asked for again because
// tickets do not open, and a KDC is asked again that has not answered: the pause doubles.
const (
	checkEvery   = time.Second
	askEvery     = time.Minute
	pauseFirst   = time.Second
	pauseLongest = 15 * time.Second
)

// load makes sure that the keys are those of the secret. It asks the KDC what a password is salted
// with, once. What was held before stays in use if the KDC does not say. With again it asks although
// the secret has not changed, and returns an error unless there is a new key.
func (a *accepting) load(ctx context.Context, r *Ref, again bool) error {
	now := a.clock()
	if since := now.UnixNano() - a.checked.Load(); !again && 0 <= since && since < int64(checkEvery) {
		return nil
	}
	if !a.enter(ctx, again) {
		return ctx.Err()
	}
	defer func() { <-a.loading }()
	found, err := a.update(ctx, r, again, now)
	switch {
	case again && err == nil && !found:
		return errNoNewKey
	case !again && a.own.Load() != nil:
		a.checked.Store(now.UnixNano())
		return nil
	}
	return err
}

// enter waits until no other goroutine looks for keys, which may take as long as a KDC does. It
// returns false if the request has ended, and if there are keys already, which is no failure.
func (a *accepting) enter(ctx context.Context, again bool) bool {
	if !again && a.own.Load() != nil {
		select {
		case a.loading <- struct{}{}:
			return true
		default:
			return false
		}
	}
	select {
	case a.loading <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// update asks for the keys if there may be others than those that are held. It reports whether there
// is a new one.
func (a *accepting) update(ctx context.Context, r *Ref, again bool, now time.Time) (found bool, err error) {
	accounts := r.identity.KeyAccounts(ctx)
	changed, since := !slices.Equal(accounts, a.accounts), now.Sub(a.asked)
	switch {
	case changed:
	case a.failed != nil && 0 <= since && since < a.pause:
		return false, a.failed
	case a.failed != nil, len(accounts) == 0, again && (since < 0 || since >= askEvery):
	default:
		return false, nil
	}
	a.asked = now
	// Of a managed password that has not been read, or was changed a moment ago.
	if err = r.initiator.ReadPassword(context.WithoutCancel(ctx), again); err == nil || len(accounts) > 0 {
		a.accounts = r.identity.KeyAccounts(ctx)
		found, err = a.get(ctx, r, a.accounts, now)
	}
	a.failed = err
	if a.pause = min(max(2*a.pause, pauseFirst), pauseLongest); a.failed == nil {
		a.pause = 0
	}
	return found, a.failed
}

// errNoNewKey is for a ring that has the same keys as before.
var errNoNewKey = errors.New("no new key")

// get puts the accounts' keys into the ring, and reports whether one of them is new. A client that
// goes away does not end it.
func (a *accepting) get(ctx context.Context, r *Ref, accounts []*krb5core.Account, now time.Time) (bool, error) {
	ctx = context.WithoutCancel(ctx) // the timeout of the block's client bounds it
	var keys []accept.LongTermKey
	for _, account := range accounts {
		held, err := r.initiator.TicketKeys(ctx, account)
		if err != nil {
			return false, err
		}
		for _, k := range held {
			keys = append(keys, accept.LongTermKey(k))
		}
	}
	found := a.ring.Replace(keys, now)
	if len(accounts) > 0 { // after the keys: who sees the account does not wait for them
		own := accounts[0].KeyPrincipal()
		a.own.Store(&own)
	}
	return found, nil
}
