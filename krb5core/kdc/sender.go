package kdc

import (
	"crypto/tls"
	"fmt"
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
		return nil, fmt.Errorf("kdc: a finder is required")
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
