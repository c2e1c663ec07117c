package kdc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// Defaults of [Config].
const (
	DefaultHedgeDelay    = 300 * time.Millisecond
	DefaultServerTimeout = 3 * time.Second
	DefaultTimeout       = 10 * time.Second
	DefaultMaxConcurrent = 64
)

// Config is what a [Sender] is made of. Only Finder is required.
type Config struct {
	// Finder tells the KDCs of a realm.
	Finder Finder
	// Options are the sockets' settings.
	Options Options
	// HedgeDelay is how long a KDC may be silent before the next one is asked
	// as well; 0 is DefaultHedgeDelay.
	HedgeDelay time.Duration
	// ServerTimeout is how long a KDC may be silent before a query with
	// pre-authentication leaves it for the next; 0 is DefaultServerTimeout. It
	// is shortened so that each KDC has its turn, and the last one has all
	// the time that is left.
	ServerTimeout time.Duration
	// Timeout bounds a Send whose context has no deadline; 0 is
	// DefaultTimeout.
	Timeout time.Duration
	// MaxConcurrent is how many Sends may be under way; the others queue. 0
	// is DefaultMaxConcurrent.
	MaxConcurrent int
	// Memory is what is known of each KDC. Senders may share one; nil is one
	// of the sender's own.
	Memory *Memory
	// Observer sees messages and decisions; may be nil.
	Observer Observer
	// Resolver resolves the names of KDCs; nil is net.DefaultResolver.
	Resolver Resolver
	// Dialer makes all connections instead of a net.Dialer set up by Options;
	// nil is that. UDP sockets are expected to be connected.
	Dialer Dialer
	// Clock is the time; nil is the machine's.
	Clock Clock
}

// Sender asks KDCs. It is safe for concurrent use and holds no resources
// between calls.
type Sender struct {
	cfg     Config
	dialer  Dialer
	proxied bool
	tls     *tls.Config
	slots   chan struct{}
}

// NewSender checks the configuration and makes a sender of it.
func NewSender(cfg Config) (*Sender, error) {
	if cfg.Finder == nil {
		return nil, errors.New("kdc: a finder is required")
	}
	if err := cfg.Options.Check(); err != nil {
		return nil, err
	}
	setDefault(&cfg.HedgeDelay, DefaultHedgeDelay)
	setDefault(&cfg.ServerTimeout, DefaultServerTimeout)
	setDefault(&cfg.Timeout, DefaultTimeout)
	setDefault(&cfg.MaxConcurrent, DefaultMaxConcurrent)
	if cfg.Options.fixedPort() {
		// Two sockets of one port could not be told apart by the replies.
		cfg.MaxConcurrent = 1
	}
	if cfg.Memory == nil {
		cfg.Memory = NewMemory()
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.Clock == nil {
		cfg.Clock = systemClock{}
	}
	s := &Sender{cfg: cfg, dialer: cfg.Dialer, tls: newTLSConfig(cfg.Options), slots: make(chan struct{}, cfg.MaxConcurrent)}
	if s.dialer == nil {
		s.dialer = optionsDialer{cfg.Options}
	}
	if cfg.Options.Proxy != nil {
		s.dialer, s.proxied = newProxyDialer(cfg.Options.Proxy, s.dialer), true
	}
	return s, nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Send asks the KDCs of the realm until one gives a reply that the query
// accepts. If none does, the last reply with the verdict NextKDC is returned
// without an error, else an [*UnreachableError] that names each KDC and why it
// did not serve, or the finder's error. All goroutines and sockets are gone
// when Send returns.
func (s *Sender) Send(ctx context.Context, q Query) (Reply, error) {
	ctx, stop := s.bound(ctx)
	defer stop()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return Reply{}, &UnreachableError{Realm: q.Realm, Cause: fmt.Errorf("waiting for other exchanges: %w", context.Cause(ctx))}
	}
	servers, err := s.cfg.Finder.KDCs(ctx, q.Realm)
	if err != nil {
		return Reply{}, fmt.Errorf("finding KDCs: %w", err)
	}
	r := &round{sender: s, query: &q, observed: ctx, began: s.cfg.Clock.Now(), results: make(chan outcome)}
	r.ctx, r.cancel = context.WithCancel(ctx)
	defer r.cancel()
	for _, server := range s.order(servers, q.Avoid) {
		r.queue = append(r.queue, newCandidate(server, s.proxied))
	}
	return r.run()
}

// bound gives a context without a deadline Config.Timeout by the injected clock.
func (s *Sender) bound(ctx context.Context) (context.Context, func()) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer, stop := s.cfg.Clock.After(s.cfg.Timeout)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-timer:
			cancel(fmt.Errorf("%w within %s: %w", ErrNoAnswer, s.cfg.Timeout, context.DeadlineExceeded))
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		stop()
		cancel(context.Canceled)
		<-done
	}
}

// order puts servers that are dead last, and before them those to be avoided.
func (s *Sender) order(servers, avoid []Server) []Server {
	dead := s.cfg.Memory.deadServers(s.cfg.Clock.Now())
	rank := func(server Server) (n int) {
		if dead[server] {
			n += 2
		}
		if slices.ContainsFunc(avoid, func(a Server) bool {
			return strings.EqualFold(a.Host, server.Host) && a.port() == server.port()
		}) {
			n++
		}
		return n
	}
	ordered := slices.Clone(servers)
	slices.SortStableFunc(ordered, func(a, b Server) int { return rank(a) - rank(b) })
	return ordered
}

func (s *Sender) decide(ctx context.Context, d Decision) {
	if s.cfg.Observer != nil {
		s.cfg.Observer.ObserveDecision(ctx, d)
	}
}
