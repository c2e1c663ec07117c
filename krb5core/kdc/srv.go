package kdc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// How long answers of the DNS are used. Go's resolver reports no TTL.
const (
	srvTTL         = 5 * time.Minute
	srvNegativeTTL = 10 * time.Second
	// srvMaxRealms and srvMaxTargets bound the memory: realms may come from
	// referrals, and answers from anyone.
	srvMaxRealms  = 1024
	srvMaxTargets = 64
)

// SRVConfig configures an [SRV] finder. The zero value is usable.
type SRVConfig struct {
	// Service is whose servers are looked up: "kerberos" if empty, "ldap" (TCP only), "kpasswd".
	Service string
	// Site is the Active Directory site whose KDCs come first; may be empty.
	Site string
	// Resolver is asked; nil is net.DefaultResolver.
	Resolver Resolver

	clock clock           // nil is the machine's
	intN  func(n int) int // nil is math/rand/v2.IntN
}

// SRV is a [Finder] that looks KDCs up in the DNS: RFC 4120, Section 7.2.3 and
// RFC 2782. Answers are kept for five minutes and failures for ten seconds; an
// expired answer stays in use while the DNS fails. It is safe for concurrent
// use; callers that need the same realm at the same time share one lookup.
type SRV struct {
	cfg     SRVConfig
	lookups singleflight.Group // by realm, of srvAnswer

	mu     sync.Mutex
	realms map[string]srvAnswer
}

type srvAnswer struct {
	servers []Server
	err     error
	until   time.Time // when it expires
	// abandoned reports that the caller who began the lookup went away, so
	// that the error concerns that caller alone.
	abandoned bool
}

// NewSRV returns a finder.
func NewSRV(cfg SRVConfig) *SRV {
	cfg.Service = cmp.Or(cfg.Service, "kerberos")
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.clock == nil {
		cfg.clock = systemClock{}
	}
	if cfg.intN == nil {
		cfg.intN = rand.IntN
	}
	return &SRV{cfg: cfg, realms: make(map[string]srvAnswer)}
}

func (f *SRV) KDCs(ctx context.Context, realm string) ([]Server, error) {
	if err := messages.CheckHostName(realm); err != nil {
		return nil, fmt.Errorf("realm %s: %w in the DNS: its name is not a domain; configure one with kdc", realm, ErrNoKDC)
	}
	for {
		if a, ok := f.held(realm); ok && f.cfg.clock.Now().Before(a.until) {
			return a.servers, a.err
		}
		lookup := f.lookups.DoChan(realm, func() (any, error) { return f.fetch(ctx, realm), nil })
		select {
		case result := <-lookup:
			if a := result.Val.(srvAnswer); !a.abandoned || ctx.Err() != nil {
				return a.servers, a.err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("realm %s: looking KDCs up in the DNS: %w", realm, context.Cause(ctx))
		}
	}
}

// held returns the last answer, expired or not.
func (f *SRV) held(realm string) (srvAnswer, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.realms[realm]
	return a, ok
}

// fetch looks KDCs up and keeps the answer.
func (f *SRV) fetch(ctx context.Context, realm string) srvAnswer {
	servers, err := f.lookUp(ctx, realm)
	now := f.cfg.clock.Now()
	a := srvAnswer{servers: servers, err: err, until: now.Add(srvTTL), abandoned: ctx.Err() != nil}
	if a.abandoned {
		return a
	}
	if err != nil {
		a.until = now.Add(srvNegativeTTL)
		if old, _ := f.held(realm); len(old.servers) > 0 && !errors.Is(err, ErrNoKDC) {
			a.servers, a.err = old.servers, nil
		}
	}
	f.keep(realm, a, now)
	return a
}

// keep stores an answer and drops others if there are too many, expired ones
// first.
func (f *SRV) keep(realm string, a srvAnswer, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.realms) >= srvMaxRealms {
		maps.DeleteFunc(f.realms, func(_ string, old srvAnswer) bool { return !now.Before(old.until) })
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
	udp, tcp := "_"+f.cfg.Service+"._udp.", "_"+f.cfg.Service+"._tcp."
	queries := []*srvQuery{{protocol: UDP, name: udp + domain}, {protocol: TCP, name: tcp + domain}}
	if f.cfg.Service == "ldap" {
		queries = queries[1:]
	}
	if f.cfg.Site != "" {
		queries = append(queries, &srvQuery{protocol: TCP, name: tcp + f.cfg.Site + "._sites." + domain, site: true})
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
	// speak both, as the realm's own records show.
	site.adopt(&rest)
	servers := append(site.order(f.cfg.intN), rest.order(f.cfg.intN)...)
	switch {
	case len(servers) > 0:
		return servers[:min(len(servers), srvMaxTargets)], nil
	case len(errs) > 0:
		return nil, fmt.Errorf("realm %s: looking KDCs up in the DNS: %w", realm, errors.Join(errs...))
	}
	return nil, fmt.Errorf("realm %s: %w in the DNS: there is no %s%s or %s%s; configure one",
		realm, ErrNoKDC, udp, realm, tcp, realm)
}

type srvQuery struct {
	protocol Protocol
	name     string
	site     bool
	records  []*net.SRV
	err      error
}

// ask sets the answer. That there are no records is not an error.
func (q *srvQuery) ask(ctx context.Context, r Resolver) {
	_, records, err := r.LookupSRV(ctx, "", "", q.name)
	// A resolver may return valid records beside an error about others.
	var dns *net.DNSError
	if len(records) == 0 && err != nil && (!errors.As(err, &dns) || !dns.IsNotFound) {
		q.err = err
	}
	q.records = records
}
