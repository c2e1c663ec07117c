package kdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Sender asks KDCs. It is safe for concurrent use and holds no resources
// between calls.
type Sender struct {
	cfg   *config
	slots chan struct{}
}

// NewSender checks the configuration and returns a sender.
func NewSender(cfg Config) (*Sender, error) {
	if cfg.Finder == nil {
		return nil, errors.New("kdc: a finder is required")
	}
	if err := cfg.Options.Check(); err != nil {
		return nil, err
	}
	c := newConfig(cfg)
	return &Sender{cfg: c, slots: make(chan struct{}, c.MaxConcurrent)}, nil
}

// Health returns what is known of each KDC, in the order of their names.
func (s *Sender) Health() []Health { return s.cfg.Memory.Health() }

// Send asks the KDCs of the realm until one gives a reply that the request
// accepts. If none does, the last reply with the verdict NextKDC is returned
// without an error, else an [*UnreachableError] that names each KDC and why it
// did not answer, or the finder's error. All sockets are closed
// when Send returns.
func (s *Sender) Send(ctx context.Context, q Request) (Reply, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.cfg.Timeout,
			fmt.Errorf("%w within %s: %w", ErrNoAnswer, s.cfg.Timeout, context.DeadlineExceeded))
		defer cancel()
	}
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
	if q.PreferTCP && slices.ContainsFunc(servers, func(s Server) bool { return s.Scheme != SchemeUDP }) {
		q.TCPOnly = true
	}
	r := &round{cfg: s.cfg, request: &q, observed: ctx, results: make(chan outcome)}
	r.ctx, r.cancel = context.WithCancel(ctx)
	defer r.cancel()
	for _, server := range s.order(servers, q.Avoid) {
		r.queue = append(r.queue, newCandidate(server, s.cfg.proxied))
	}
	return r.run()
}

// order puts servers that are dead last, and before them those to be avoided.
func (s *Sender) order(servers, avoid []Server) []Server {
	dead := s.cfg.Memory.deadServers(s.cfg.clock.Now())
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
