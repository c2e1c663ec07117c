package kdc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// How long the answers of the DNS are believed. Go's resolver tells no TTL.
const (
	srvTTL         = 5 * time.Minute
	srvNegativeTTL = 10 * time.Second
	// srvMaxRealms and srvMaxTargets bound the memory: realms may come from
	// referrals, and answers from anyone.
	srvMaxRealms  = 1024
	srvMaxTargets = 64
)

// SRVConfig is what an [SRV] finder is made of. The zero value serves.
type SRVConfig struct {
	// Site is the Active Directory site whose KDCs come first; may be empty.
	Site string
	// Resolver is asked; nil is net.DefaultResolver.
	Resolver Resolver
	// Clock is the time; nil is the machine's.
	Clock Clock
	// IntN gives a random number from 0 to n-1; nil is math/rand/v2.IntN.
	IntN func(n int) int
}

// SRV is a [Finder] that looks KDCs up in the DNS: RFC 4120 section 7.2.3 and
// RFC 2782. Answers are kept for five minutes and failures for ten seconds; an
// answer that has run out serves on while the DNS fails. It is safe for
// concurrent use, and who asks for the same realm at the same time waits for
// the same lookup.
type SRV struct {
	cfg SRVConfig

	mu      sync.Mutex
	realms  map[string]srvAnswer
	lookups map[string]*srvLookup
}

// srvAnswer is what is remembered of a realm.
type srvAnswer struct {
	servers []Server
	err     error
	until   time.Time
}

// srvLookup is a lookup under way. It is cancelled when nobody waits for it.
type srvLookup struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int
	answer  srvAnswer
}

// NewSRV makes a finder.
func NewSRV(cfg SRVConfig) *SRV {
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.Clock == nil {
		cfg.Clock = systemClock{}
	}
	if cfg.IntN == nil {
		cfg.IntN = rand.IntN
	}
	return &SRV{cfg: cfg, realms: make(map[string]srvAnswer), lookups: make(map[string]*srvLookup)}
}

// KDCs implements [Finder].
func (f *SRV) KDCs(ctx context.Context, realm string) ([]Server, error) {
	if err := checkHost(realm); err != nil {
		return nil, fmt.Errorf("realm %s: %w in the DNS: its name is no domain; name one with kdc", realm, ErrNoKDC)
	}
	f.mu.Lock()
	if a, ok := f.realms[realm]; ok && f.cfg.Clock.Now().Before(a.until) {
		f.mu.Unlock()
		return a.servers, a.err
	}
	l := f.lookups[realm]
	if l == nil {
		l = f.begin(ctx, realm)
	}
	l.waiters++
	f.mu.Unlock()

	select {
	case <-l.done:
		f.leave(realm, l)
		return l.answer.servers, l.answer.err
	case <-ctx.Done():
		f.leave(realm, l)
		return nil, fmt.Errorf("realm %s: looking KDCs up in the DNS: %w", realm, context.Cause(ctx))
	}
}

// begin starts a lookup that outlives its first caller if others wait; the lock
// is held.
func (f *SRV) begin(ctx context.Context, realm string) *srvLookup {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &srvLookup{done: make(chan struct{}), cancel: cancel}
	f.lookups[realm] = l
	go func() {
		defer close(l.done)
		servers, err := f.lookUp(ctx, realm)
		f.finish(ctx, realm, l, servers, err)
	}()
	return l
}

// leave counts a waiter off; the last one ends the lookup.
func (f *SRV) leave(realm string, l *srvLookup) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.waiters--; l.waiters > 0 {
		return
	}
	l.cancel()
	if f.lookups[realm] == l {
		delete(f.lookups, realm)
	}
}

// finish remembers the answer.
func (f *SRV) finish(ctx context.Context, realm string, l *srvLookup, servers []Server, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.cfg.Clock.Now()
	l.answer = srvAnswer{servers: servers, err: err, until: now.Add(srvTTL)}
	if err != nil {
		l.answer.until = now.Add(srvNegativeTTL)
		if old := f.realms[realm]; len(old.servers) > 0 && !errors.Is(err, ErrNoKDC) {
			l.answer.servers, l.answer.err = old.servers, nil
		}
	}
	if ctx.Err() != nil {
		return // nobody waits, and the answer is of the cancellation
	}
	if f.lookups[realm] == l {
		delete(f.lookups, realm)
	}
	f.remember(realm, l.answer)
}

// remember keeps an answer within bounds; the lock is held.
func (f *SRV) remember(realm string, a srvAnswer) {
	if len(f.realms) >= srvMaxRealms {
		now := f.cfg.Clock.Now()
		for name, old := range f.realms {
			if !now.Before(old.until) {
				delete(f.realms, name)
			}
		}
	}
	for name := range f.realms {
		if len(f.realms) < srvMaxRealms {
			break
		}
		delete(f.realms, name)
	}
	f.realms[realm] = a
}

// lookUp asks for the site's KDCs and all of the realm's, at the same time.
func (f *SRV) lookUp(ctx context.Context, realm string) ([]Server, error) {
	domain := strings.TrimSuffix(realm, ".") + "."
	queries := []*srvQuery{
		{protocol: UDP, name: "_kerberos._udp." + domain},
		{protocol: TCP, name: "_kerberos._tcp." + domain},
	}
	if f.cfg.Site != "" {
		queries = append(queries, &srvQuery{protocol: TCP, name: "_kerberos._tcp." + f.cfg.Site + "._sites." + domain, site: true})
	}
	var all sync.WaitGroup
	for _, q := range queries {
		all.Go(func() { q.ask(ctx, f.cfg.Resolver) })
	}
	all.Wait()

	var site, rest targets
	var errs []error
	for _, q := range queries {
		set := &rest
		if q.site {
			set = &site
		}
		for _, r := range q.records {
			set.add(q.protocol, r)
		}
		if q.err != nil {
			errs = append(errs, q.err)
		}
	}
	// Active Directory registers a site's KDCs for TCP alone, though they
	// speak both; the realm's own records tell.
	site.adopt(&rest)
	servers := append(site.order(f.cfg.IntN), rest.order(f.cfg.IntN)...)
	switch {
	case len(servers) > 0:
		return servers[:min(len(servers), srvMaxTargets)], nil
	case len(errs) > 0:
		return nil, fmt.Errorf("realm %s: looking KDCs up in the DNS: %w", realm, errors.Join(errs...))
	}
	return nil, fmt.Errorf("realm %s: %w in the DNS: there is no _kerberos._udp.%s or _kerberos._tcp.%s; name one with kdc",
		realm, ErrNoKDC, realm, realm)
}

// srvQuery is one question to the DNS and its answer.
type srvQuery struct {
	protocol Protocol
	name     string
	site     bool
	records  []*net.SRV
	err      error
}

// ask fills the answer in. That there is nothing is no error.
func (q *srvQuery) ask(ctx context.Context, r Resolver) {
	_, records, err := r.LookupSRV(ctx, "", "", q.name)
	// A resolver may return valid records beside an error about others.
	var dns *net.DNSError
	if len(records) == 0 && err != nil && (!errors.As(err, &dns) || !dns.IsNotFound) {
		q.err = err
	}
	q.records = records
}

// target is one host and port with what its records say.
type target struct {
	host             string
	port             uint16
	priority, weight uint16
	udp, tcp         bool
}

// targets are the records of one preference, in the order in which they came.
type targets struct {
	list []target
	// noTCP says that the realm declares that it offers no TCP.
	noTCP bool
}

func (t *targets) find(host string, port uint16) int {
	for i := range t.list {
		if t.list[i].port == port && t.list[i].host == host {
			return i
		}
	}
	return -1
}

// add takes a record in. A target of "." means that the service is decidedly
// not offered (RFC 2782).
func (t *targets) add(p Protocol, r *net.SRV) {
	host := strings.ToLower(strings.TrimSuffix(r.Target, "."))
	if host == "" {
		t.noTCP = t.noTCP || p == TCP
		return
	}
	if _, err := netip.ParseAddr(host); r.Port == 0 || err != nil && checkHost(host) != nil {
		return
	}
	i := t.find(host, r.Port)
	if i < 0 {
		i = len(t.list)
		t.list = append(t.list, target{host: host, port: r.Port, priority: r.Priority, weight: r.Weight})
	}
	one := &t.list[i]
	one.udp, one.tcp = one.udp || p == UDP, one.tcp || p == TCP
	if r.Priority < one.priority {
		one.priority, one.weight = r.Priority, r.Weight
	}
}

// adopt takes over from all what it says of the same hosts.
func (t *targets) adopt(all *targets) {
	for i := range t.list {
		one := &t.list[i]
		if j := all.find(one.host, one.port); j >= 0 {
			one.udp = one.udp || all.list[j].udp
			all.list = append(all.list[:j], all.list[j+1:]...)
		}
	}
}

// order empties the set into servers by priority, and within one priority by
// drawing lots by weight as RFC 2782 says.
func (t *targets) order(intN func(int) int) []Server {
	var servers []Server
	for len(t.list) > 0 {
		i := t.draw(intN)
		servers = append(servers, t.list[i].server(t.noTCP))
		t.list = append(t.list[:i], t.list[i+1:]...)
	}
	return servers
}

// draw chooses among the targets of the lowest priority. Those without weight
// stand first in the running sum, so that they are chosen but rarely.
func (t *targets) draw(intN func(int) int) int {
	lowest, sum := t.list[0].priority, 0
	for _, one := range t.list {
		if one.priority < lowest {
			lowest, sum = one.priority, 0
		}
		if one.priority == lowest {
			sum += int(one.weight)
		}
	}
	lot, running := intN(sum+1), 0
	chosen := -1
	for _, weightless := range []bool{true, false} {
		for i, one := range t.list {
			if one.priority != lowest || (one.weight == 0) != weightless {
				continue
			}
			if running += int(one.weight); running >= lot {
				return i
			}
			chosen = i
		}
	}
	return chosen
}

// server says by which protocols to ask. Every KDC has to serve TCP (RFC 4120
// section 7.2.2), so that a record for UDP permits it unless the realm declares
// that there is none.
func (t target) server(noTCP bool) Server {
	s := Server{Host: t.host, Port: int(t.port)}
	switch {
	case !t.udp:
		s.Scheme = SchemeTCP
	case noTCP && !t.tcp:
		s.Scheme = SchemeUDP
	}
	return s
}
