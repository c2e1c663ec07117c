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
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

const (
	maxCCache = 16 << 20
	// ccacheMargin is how long a ticket of a cache must last to be worth using.
	ccacheMargin = time.Minute
	// renewBefore is the share of its life that a renewable ticket may have left
	// before it is renewed.
	renewBefore = 0.3
)

// ErrCCache is wrapped by the errors of a credential cache that is of no use now.
var ErrCCache = errors.New("credential cache")

// ReadCCache reads a credential cache of type FILE.
func ReadCCache(path string) (*ccache.CCache, error) {
	content, err := readFile(path, maxCCache)
	if err != nil {
		return nil, err
	}
	file, err := ccache.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}

// CCachePath takes off the FILE: that MIT's KRB5CCNAME has, and refuses the types
// that are no files.
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

// credentialCache is a file that somebody else keeps filled with tickets: kinit,
// SSSD, a sidecar.
type credentialCache struct {
	path    string
	clock   *krb5core.Clock
	observe func(Event)

	mu      sync.Mutex
	stamp   stamp
	file    *ccache.CCache
	as      *krb5core.Account
	renewed *messages.Credential // a ticket of the file's, renewed; the file is not ours to write
}

func (c *credentialCache) reload() (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := stampOf(c.path)
	if c.file != nil && now.equal(c.stamp) {
		return false, nil
	}
	file, err := ReadCCache(c.path)
	if err != nil {
		if c.file == nil {
			return false, err
		}
		c.stamp = now
		c.observe(SecretBroken{Path: c.path, Err: err})
		return false, nil
	}
	first := c.file == nil
	if first || !c.file.DefaultPrincipal.Equal(file.DefaultPrincipal) {
		c.as = krb5core.NewAccount(file.DefaultPrincipal, nil, c.clock)
		c.renewed = nil
	}
	c.stamp, c.file = now, file
	if file.KDCOffset != 0 {
		c.clock.Learn(file.DefaultPrincipal.Realm, file.KDCOffset)
	}
	if !first {
		c.observe(SecretChanged{Path: c.path})
	}
	return !first, nil
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

// best is the ticket-granting ticket that lasts longest, the file's or the one
// renewed of it.
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

func (c *credentialCache) tgt(ctx context.Context, s *Settings, _ int) (*messages.Credential, error) {
	tgt := c.best()
	if tgt == nil {
		return nil, fmt.Errorf("%w %s: no ticket-granting ticket of %s that is still good; fill it again (kinit -c %s)",
			ErrCCache, c.path, c.principal(), c.path)
	}
	now := c.clock.Now(tgt.Service.Realm)
	left, life := tgt.EndTime.Sub(now), tgt.EndTime.Sub(tgt.Start())
	renewable := tgt.Flags&messages.TKT_FLG_RENEWABLE != 0 && tgt.RenewTill.After(tgt.EndTime)
	if !renewable || float64(left) > renewBefore*float64(life) {
		return tgt, nil
	}
	renewed, err := s.Client.Renew(ctx, c.account(), tgt)
	if err != nil {
		c.observe(RenewFailed{Path: c.path, Ends: tgt.EndTime, Err: err})
		return tgt, nil // it serves as long as it lasts
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
