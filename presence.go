package caddynegotiate

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// pooled is what the pool of identities holds.
type pooled = *presence

// presence is an identity in the pool: the account as a running thing, and what
// operators know it by.
type presence struct {
	*negotiate.Identity

	// meter counts under the identity's label; read for every request.
	meter atomic.Pointer[meter]
	// tried: somebody has logged in, or tried to. ends is when the last ticket-granting
	// ticket that was won ends, in nanoseconds since 1970.
	tried atomic.Bool
	ends  atomic.Int64

	mu    sync.Mutex
	users map[*account]struct{}
}

// Destruct forgets the identity's tickets when the last block that used it is gone.
func (p *presence) Destruct() error {
	p.Close()
	return nil
}

// observe keeps what gauges need, and hands on.
func (p *presence) observe(next func(negotiate.Event)) func(negotiate.Event) {
	return func(e negotiate.Event) {
		switch e := e.(type) {
		case negotiate.LoggedIn:
			p.tried.Store(true)
			p.ends.Store(e.Credential.EndTime.UnixNano())
		case negotiate.LoginFailed:
			p.tried.Store(true)
		}
		next(e)
	}
}

// meter counts the account's requests.
func (acct *account) meter() *meter { return acct.presence.meter.Load() }

// join and leave keep the list of the accounts that refer to the identity.
func (p *presence) join(acct *account) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users == nil {
		p.users = make(map[*account]struct{})
	}
	p.users[acct] = struct{}{}
	p.relabel()
}

func (p *presence) leave(acct *account) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.users, acct)
	p.relabel()
}

// relabel has requests counted under the first of the identity's names.
func (p *presence) relabel() {
	if names := p.sortedNames(); len(names) > 0 {
		p.meter.Store(meterOf(names[0]))
	}
}

func (p *presence) sortedNames() []string {
	names := make(map[string]struct{})
	for acct := range p.users {
		names[acct.settings.Name] = struct{}{}
	}
	return slices.Sorted(maps.Keys(names))
}

// names are those that the configuration has for the identity, in order.
func (p *presence) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sortedNames()
}

// name is the first of them.
func (p *presence) name() string {
	if names := p.names(); len(names) > 0 {
		return names[0]
	}
	return p.Principal().String()
}

// servers are the KDCs that the configuration names for the identity's realm, and
// those that were asked since it was loaded.
func (p *presence) servers() []kdc.Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []kdc.Server
	for acct := range p.users {
		for _, s := range acct.counts.list() {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// present lists the identities in the pool.
func present() []*presence {
	var all []*presence
	identities.Range(func(_, value any) bool {
		all = append(all, value.(pooled))
		return true
	})
	return all
}

// endOf is when the identity's ticket-granting ticket ends: the first of those that
// are held, else the last that was.
func (p *presence) endOf(held []ticketItem) (end time.Time) {
	for _, item := range held {
		if negotiate.IsTGT(item.Key) && (end.IsZero() || item.Value.End().Before(end)) {
			end = item.Value.End()
		}
	}
	if nanos := p.ends.Load(); end.IsZero() && nanos != 0 {
		end = time.Unix(0, nanos)
	}
	return end
}

// Interface guards
var _ caddy.Destructor = (*presence)(nil)
