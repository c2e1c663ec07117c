package ccache

import (
	"fmt"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// A CCache is the contents of a credential cache.
type CCache struct {
	// Name is that of the cache that a Source read, which is one of a collection perhaps;
	// empty after Parse.
	Name string

	// Version is that of the file that was read, 1 to 4.
	Version int

	// DefaultPrincipal is the owner of the tickets.
	DefaultPrincipal messages.Principal

	// Credentials are the tickets in the order of the file, without
	// configuration entries and removed ones. Times are whole seconds, zero
	// where the file says 0. Version 1 files have no name types: theirs are
	// KRB_NT_PRINCIPAL.
	Credentials []messages.Credential

	// Config is what clients note about the cache, such as "fast_avail" for a
	// ticket-granting service.
	Config map[ConfigKey][]byte

	// KDCOffset is the KDC's clock minus that of the client which wrote the
	// file, as far as that one knew; it is kept by version 4 only.
	KDCOffset time.Duration
}

// String returns the default principal and the number of tickets; no ticket and no value of
// the configuration is shown.
func (c CCache) String() string {
	return fmt.Sprintf("credential cache of %s with %d tickets", c.DefaultPrincipal, len(c.Credentials))
}

// A ConfigKey names an entry of a cache's configuration.
type ConfigKey struct {
	Name string

	// Principal is the service that the entry concerns, as text with realm;
	// "" for the cache as a whole.
	Principal string
}

// TGT returns the default principal's ticket for the ticket-granting service of
// a realm that is valid at a time, nil if there is none.
func (c *CCache) TGT(realm string, at time.Time) *messages.Credential {
	return c.Ticket(messages.TGSName(realm), "", at)
}

// Ticket returns the default principal's ticket for a service that is valid at
// a time, and of several the one that ends last; nil if there is none. An empty
// realm means any. Names are compared exactly, name types are not. What
// needs a second ticket (user-to-user) is not considered.
func (c *CCache) Ticket(service messages.PrincipalName, realm string, at time.Time) *messages.Credential {
	var best *messages.Credential
	for i := range c.Credentials {
		cred := &c.Credentials[i]
		if !cred.Service.Name.Equal(service) || realm != "" && cred.Service.Realm != realm ||
			cred.IsSKey || !cred.Client.Equal(c.DefaultPrincipal) || !validAt(cred, at) {
			continue
		}
		if best == nil || cred.EndTime.After(best.EndTime) {
			best = cred
		}
	}
	return best
}

// startSkew is how far ahead a ticket's start may be: the KDC's clock, by which
// it was set, is not ours.
const startSkew = 5 * time.Minute

func validAt(c *messages.Credential, at time.Time) bool {
	return c.Flags&messages.TKT_FLG_INVALID == 0 && at.Before(c.EndTime) && !at.Add(startSkew).Before(c.Start())
}

// A configuration entry is a credential for the service
// krb5_ccache_conf_data/name[/principal]@X-CACHECONF:, its value in place of
// the ticket. MIT renames the realm of one that is removed.
const (
	confName         = "krb5_ccache_conf_data"
	confRealm        = "X-CACHECONF:"
	confRealmRemoved = "X-RMED-CONF:"
)

// configKey returns what a credential configures, if anything.
func configKey(c *messages.Credential) (ConfigKey, bool) {
	name := c.Service.Name.NameString
	if c.Service.Realm != confRealm || len(name) < 2 || name[0] != confName {
		return ConfigKey{}, false
	}
	key := ConfigKey{Name: name[1]}
	if len(name) > 2 {
		key.Principal = name[2]
	}
	return key, true
}
