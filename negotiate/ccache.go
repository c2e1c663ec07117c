package negotiate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

const (
	// ccacheMargin is how long a ticket of a cache must still last to be used.
	ccacheMargin = time.Minute
	// renewBefore is the remaining share of its life at which a renewable ticket is
	// renewed.
	renewBefore = 0.3
)

// ErrCCache is wrapped by the errors of a credential cache that cannot be used now.
var ErrCCache = errors.New("credential cache")

// OtherOwner is the error of a credential cache whose principal is not the configured one.
func OtherOwner(name string, owner, configured messages.Principal) error {
	return fmt.Errorf("%s: has tickets of %s, not of %s; fix user, or leave it out", name, owner, configured)
}

// credentialCache is a cache that another program fills with tickets: kinit, SSSD, a
// sidecar. What was read stays in use if the cache cannot be read any more.
type credentialCache struct {
	source  ccache.Source
	clock   *krb5core.Clock
	pinned  messages.Principal // zero: the cache's principal, whichever it is
	observe func(Event)

	reading chan struct{} // one at a time

	mu      sync.Mutex
	cache   *ccache.CCache // nil until one has been read
	as      *krb5core.Account
	renewed *messages.Credential // a ticket of the cache, renewed; the cache itself is not written
	broken  error                // why the last reading failed; nil after a success
}

// newCredentialCache returns a cache that has not been read. Until then its principal is
// the configured one.
func newCredentialCache(cfg *IdentityConfig, clock *krb5core.Clock) *credentialCache {
	return &credentialCache{
		source: cfg.Secret.ccache, clock: clock, pinned: cfg.Secret.Pinned, observe: cfg.Observe,
		reading: make(chan struct{}, 1),
		as:      krb5core.NewAccount(cfg.Principal, nil, clock),
	}
}

func (c *credentialCache) reload(ctx context.Context) (changed bool, err error) {
	select {
	case c.reading <- struct{}{}:
		defer func() { <-c.reading }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	next, err := c.source.Read(ctx, c.pinned)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		err = c.acceptable(next)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrCCache, err)
		if c.cache != nil && (c.broken == nil || c.broken.Error() != err.Error()) {
			c.observe(SecretBroken{Path: c.name(), Err: err})
		}
		c.broken = err
		return false, err
	}
	changed = c.cache != nil || c.broken != nil
	c.broken = nil
	if next == c.cache {
		return false, nil
	}
	if !c.as.Principal().Equal(next.DefaultPrincipal) {
		c.as = krb5core.NewAccount(next.DefaultPrincipal, nil, c.clock)
		c.renewed = nil
	}
	c.cache = next
	if next.KDCOffset != 0 {
		c.clock.Learn(next.DefaultPrincipal.Realm, next.KDCOffset)
	}
	if changed {
		c.observe(SecretChanged{Path: c.name()})
	}
	return changed, nil
}

// acceptable returns why a cache does not take the place of the held one.
func (c *credentialCache) acceptable(next *ccache.CCache) error {
	switch {
	case !c.pinned.IsZero() && !next.DefaultPrincipal.Equal(c.pinned):
		return OtherOwner(next.Name, next.DefaultPrincipal, c.pinned)
	case c.cache != nil && len(next.Credentials) == 0 && len(c.cache.Credentials) > 0:
		// So it is for a moment while kinit fills it.
		return fmt.Errorf("%s: has no ticket any more; run kinit -c %[1]s", next.Name)
	}
	return nil
}

// name is that of the cache that is held; of a collection, that of the member.
func (c *credentialCache) name() string {
	if c.cache != nil {
		return c.cache.Name
	}
	return c.source.String()
}

func (c *credentialCache) principal() messages.Principal { return c.account().Principal() }
func (c *credentialCache) owner() string                 { return c.principal().String() }

func (c *credentialCache) account() *krb5core.Account {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.as
}

// best returns the ticket-granting ticket that lasts longest, the cache's or the renewed
// one.
func (c *credentialCache) best() (*messages.Credential, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cache == nil {
		return nil, c.broken
	}
	realm := c.cache.DefaultPrincipal.Realm
	at := c.clock.Now(realm).Add(ccacheMargin)
	tgt := c.cache.TGT(realm, at)
	if c.renewed != nil && c.renewed.EndTime.After(at) && (tgt == nil || c.renewed.EndTime.After(tgt.EndTime)) {
		return c.renewed, nil
	}
	if tgt == nil && c.broken != nil {
		return nil, c.broken
	}
	if tgt == nil {
		return nil, fmt.Errorf("%w %s: no ticket-granting ticket of %s that is still good; fill it again (kinit -c %[2]s)",
			ErrCCache, c.name(), c.cache.DefaultPrincipal)
	}
	return tgt, nil
}

func (c *credentialCache) tgt(ctx context.Context, s *Settings, _ *exchange.Budget) (*messages.Credential, error) {
	tgt, err := c.best()
	if err != nil {
		return nil, err
	}
	now := c.clock.Now(tgt.Service.Realm)
	left, life := tgt.EndTime.Sub(now), tgt.EndTime.Sub(tgt.Start())
	renewable := tgt.Flags&messages.TKT_FLG_RENEWABLE != 0 && tgt.RenewTill.After(tgt.EndTime)
	if !renewable || float64(left) > renewBefore*float64(life) {
		return tgt, nil
	}
	renewed, err := s.Client.Renew(ctx, c.account(), tgt)
	if err != nil {
		c.observe(RenewFailed{Path: c.source.String(), Ends: tgt.EndTime, Err: err})
		return tgt, nil // it stays in use until it ends
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renewed = renewed
	return renewed, nil
}

func (c *credentialCache) held(s *Settings, spn SPN) *messages.Credential {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cache == nil {
		return nil
	}
	realm := c.cache.DefaultPrincipal.Realm
	cred := c.cache.Ticket(spn.principal.Name, spn.principal.Realm, c.clock.Now(realm).Add(ccacheMargin))
	if cred == nil || !slices.Contains(s.Client.ETypes(), cred.Key.EType()) {
		return nil
	}
	return cred
}

func (c *credentialCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renewed = nil
	c.as.Forget()
}
