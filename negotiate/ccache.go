package negotiate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

const (
	maxCCache = 16 << 20
	// ccacheMargin is how long a ticket of a file must still last to be used.
	ccacheMargin = time.Minute
	// renewBefore is the remaining share of its life at which a renewable ticket is
	// renewed.
	renewBefore = 0.3
)

// ErrCCache is wrapped by the errors of a credential cache that cannot be used now.
var ErrCCache = errors.New("credential cache")

// ReadCCache reads a credential cache of type FILE.
func ReadCCache(path string) (*ccache.CCache, error) { return parseFile(path, maxCCache, ccache.Parse) }

// OtherOwner is the error of a credential cache whose principal is not the configured one.
func OtherOwner(path string, owner, configured messages.Principal) error {
	return fmt.Errorf("%s: has tickets of %s, not of %s; fix user, or leave it out", path, owner, configured)
}

// CCachePath removes the FILE: prefix of MIT's KRB5CCNAME, and rejects the types that
// are not files.
func CCachePath(name string) (string, error) {
	kind, rest, typed := strings.Cut(name, ":")
	switch {
	case !typed, len(kind) == 1: // C:\...
		return name, nil
	case strings.EqualFold(kind, "FILE"):
		return rest, nil
	case slices.Contains([]string{"KCM", "KEYRING", "DIR", "MEMORY", "API", "MSLSA"}, strings.ToUpper(kind)):
		return "", fmt.Errorf("%s: credential caches of type %s cannot be read; use a file (kinit -c FILE:/path), or give a keytab", name, kind)
	default:
		return name, nil
	}
}

// credentialCache is a file that another program fills with tickets: kinit, SSSD, a
// sidecar.
type credentialCache struct {
	clock  *krb5core.Clock
	pinned messages.Principal // zero: the file's principal, whichever it is

	mu      sync.Mutex
	watched watchedFile
	file    *ccache.CCache
	as      *krb5core.Account
	renewed *messages.Credential // a ticket of the file, renewed; the file itself is not written
}

func (c *credentialCache) reload() (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watched.reload(func() error {
		file, err := ReadCCache(c.watched.path)
		if err != nil {
			return err
		}
		if !c.pinned.IsZero() && !file.DefaultPrincipal.Equal(c.pinned) {
			return OtherOwner(c.watched.path, file.DefaultPrincipal, c.pinned)
		}
		if c.file == nil || !c.file.DefaultPrincipal.Equal(file.DefaultPrincipal) {
			c.as = krb5core.NewAccount(file.DefaultPrincipal, nil, c.clock)
			c.renewed = nil
		}
		c.file = file
		if file.KDCOffset != 0 {
			c.clock.Learn(file.DefaultPrincipal.Realm, file.KDCOffset)
		}
		return nil
	})
}

func (c *credentialCache) principal() messages.Principal {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.file.DefaultPrincipal
}

func (c *credentialCache) account() *krb5core.Account {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.as
}

// best returns the ticket-granting ticket that lasts longest, the file's or the renewed
// one.
func (c *credentialCache) best() *messages.Credential {
	c.mu.Lock()
	defer c.mu.Unlock()
	realm := c.file.DefaultPrincipal.Realm
	at := c.clock.Now(realm).Add(ccacheMargin)
	tgt := c.file.TGT(realm, at)
	if c.renewed != nil && c.renewed.EndTime.After(at) && (tgt == nil || c.renewed.EndTime.After(tgt.EndTime)) {
		return c.renewed
	}
	return tgt
}

func (c *credentialCache) tgt(ctx context.Context, s *Settings, _ *exchange.Budget) (*messages.Credential, error) {
	tgt := c.best()
	if tgt == nil {
		return nil, fmt.Errorf("%w %s: no ticket-granting ticket of %s that is still good; fill it again (kinit -c %s)",
			ErrCCache, c.watched.path, c.principal(), c.watched.path)
	}
	now := c.clock.Now(tgt.Service.Realm)
	left, life := tgt.EndTime.Sub(now), tgt.EndTime.Sub(tgt.Start())
	renewable := tgt.Flags&messages.TKT_FLG_RENEWABLE != 0 && tgt.RenewTill.After(tgt.EndTime)
	if !renewable || float64(left) > renewBefore*float64(life) {
		return tgt, nil
	}
	renewed, err := s.Client.Renew(ctx, c.account(), tgt)
	if err != nil {
		c.watched.observe(RenewFailed{Path: c.watched.path, Ends: tgt.EndTime, Err: err})
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
	realm := c.file.DefaultPrincipal.Realm
	cred := c.file.Ticket(spn.principal.Name, spn.principal.Realm, c.clock.Now(realm).Add(ccacheMargin))
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
