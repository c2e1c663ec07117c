package identitypool

import (
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/internal/metrics"
	"github.com/caddy-negotiate/caddy-negotiate/internal/rotation"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// Process is the pool of this process. The modules of all its configurations use it.
var Process = New()

// Pool holds identities and what they share. It is safe for concurrent use.
type Pool struct {
	tickets    *negotiate.Tickets
	identities *caddy.UsagePool // *Identity by config.Resolved.PoolKey
	health     *kdc.Memory

	mu     sync.Mutex
	limits []*Limits // the last is in force
}

// New returns an empty pool.
func New() *Pool {
	return &Pool{tickets: cache.New[*negotiate.Ticket](cache.Config{}), identities: caddy.NewUsagePool(), health: kdc.NewMemory()}
}

// Item is a ticket in the cache.
type Item = cache.Item[*negotiate.Ticket]

// Tickets lists the tickets of all identities, in no order.
func (p *Pool) Tickets() []Item { return p.tickets.Snapshot(nil) }

// Health lists what is known of the KDCs that were asked.
func (p *Pool) Health() []kdc.Health { return p.health.Health() }

// Identities lists the identities, in no order.
func (p *Pool) Identities() []*Identity {
	var all []*Identity
	p.identities.Range(func(_, value any) bool {
		all = append(all, value.(*Identity))
		return true
	})
	return all
}

// Find returns the identity that a key of the cache belongs to, nil if it is gone.
func (p *Pool) Find(key cache.Key) *negotiate.Identity {
	var found *negotiate.Identity
	p.identities.Range(func(_, value any) bool {
		if id := value.(*Identity); id.Owns(key) {
			found = id.Identity
		}
		return found == nil
	})
	return found
}

// Readings returns what the gauges show of the identities that have tried to log in or
// hold tickets.
func (p *Pool) Readings() []metrics.Reading {
	all := p.Tickets()
	var readings []metrics.Reading
	for _, id := range p.Identities() {
		if r, ok := id.reading(all); ok {
			readings = append(readings, r)
		}
	}
	return readings
}

// Limits are what one configuration sets for the ticket cache of the process, and where
// its state is kept.
//
// Configurations overlap when Caddy reloads. The limits of the last configuration that was
// started and not stopped are in force, so that one that is rejected, even after some of
// its apps were started, changes nothing.
type Limits struct {
	// Memory is the most memory that tickets may take, in bytes; 0 for the default.
	Memory int64
	// Store keeps tickets beyond the process; nil for none.
	Store cache.Store[*negotiate.Ticket]
	// Breakers keeps the state of breakers beyond the process; nil for nothing.
	Breakers negotiate.BreakerStore
	// Passwords keeps new passwords beyond the process, and their locks; nil for nothing.
	Passwords rotation.Store
}

// Limits returns the limits that are in force.
func (p *Pool) Limits() Limits {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inForce()
}

func (p *Pool) breakers() negotiate.BreakerStore { return p.Limits().Breakers }

func (p *Pool) passwords() rotation.Store { return p.Limits().Passwords }

// ApplyDefault puts l in force if no limits are. Caddy starts apps in no order: the first
// requests of a process may come before the `kerberos` app is started.
func (p *Pool) ApplyDefault(l *Limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.limits) == 0 {
		p.replace(l, l)
	}
}

// Apply puts l in force.
func (p *Pool) Apply(l *Limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replace(l, l)
}

// Revert removes l, and puts the limits in force that were before, if it was. It may be
// called more than once.
func (p *Pool) Revert(l *Limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replace(l)
}

// replace removes the old limits from the list, and appends the new ones.
func (p *Pool) replace(old *Limits, by ...*Limits) {
	p.limits = append(slices.DeleteFunc(p.limits, func(l *Limits) bool { return l == old }), by...)
	l := p.inForce()
	p.tickets.SetMemory(l.Memory)
	p.tickets.SetStore(l.Store)
}

// inForce returns the last limits, the zero Limits if there are none.
func (p *Pool) inForce() Limits {
	if len(p.limits) == 0 {
		return Limits{}
	}
	return *p.limits[len(p.limits)-1]
}
