package kdc

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// Defaults of [Config].
const (
	DefaultHedgeDelay    = 300 * time.Millisecond
	DefaultServerTimeout = 3 * time.Second
	DefaultTimeout       = 10 * time.Second
	DefaultMaxConcurrent = 64
)

// Config configures a [Sender]. Only Finder is required.
type Config struct {
	// Finder finds the KDCs of a realm.
	Finder Finder
	// Options are the sockets' settings.
	Options Options
	// HedgeDelay is how long a KDC may be silent before the next one is asked
	// as well; 0 is DefaultHedgeDelay.
	HedgeDelay time.Duration
	// ServerTimeout is how long a KDC may be silent before a request with
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

	clock clock // nil is the machine's
}

// config is a Config with defaults and what is derived from it.
type config struct {
	Config
	dialer  Dialer
	proxied bool
	tls     *tls.Config
}

func newConfig(cfg Config) *config {
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
	if cfg.clock == nil {
		cfg.clock = systemClock{}
	}
	c := &config{Config: cfg, dialer: cfg.Dialer, tls: newTLSConfig(cfg.Options)}
	if c.dialer == nil {
		c.dialer = optionsDialer{cfg.Options}
	}
	if cfg.Options.Proxy != nil {
		c.dialer, c.proxied = newProxyDialer(cfg.Options.Proxy, c.dialer), true
	}
	return c
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// decide reports a decision about a KDC, for which zero is none.
func (c *config) decide(ctx context.Context, q *Request, p peer, d Decision) {
	if c.Observer != nil {
		d.Realm, d.Server, d.Addr, d.Request = q.Realm, p.server, p.addrString(), q.Message
		c.Observer.ObserveDecision(ctx, d)
	}
}

// newTLSConfig returns the configuration that all connections to KDC proxies
// share, so that sessions can be resumed.
func newTLSConfig(o Options) *tls.Config {
	return &tls.Config{
		RootCAs:            o.RootCAs,
		Certificates:       o.ClientCertificates,
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
		NextProtos:         []string{"http/1.1"},
		MinVersion:         tls.VersionTLS12,
	}
}
