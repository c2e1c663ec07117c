package ticketstore

import (
	"context"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

const (
	// prefix is where in Caddy's storage tickets are kept.
	prefix = "kerberos/tickets/"
	// warnEvery is how often tickets that cannot be opened are warned of.
	warnEvery = time.Minute
)

// Config configures a [Store].
type Config struct {
	Storage certmagic.Storage
	// Key is the configured key, 32 bytes; nil for keys derived from keytabs.
	Key    []byte
	Logger *zap.Logger
	// Find returns the identity that a key of the cache belongs to; nil if it is gone.
	Find func(cache.Key) *negotiate.Identity
	// Count counts an operation by its result.
	Count func(operation, result string)
}

// Store keeps tickets in Caddy's storage. It implements [cache.Store].
type Store struct {
	*backend
	cfg Config

	mu     sync.Mutex
	warned time.Time // when a ticket that cannot be opened was last warned of
}

// New returns a store.
func New(cfg Config) *Store {
	const warning = "the ticket store cannot be used; tickets are kept in memory only until it works again"
	return &Store{cfg: cfg, backend: newBackend(cfg.Storage, cfg.Logger, cfg.Count, warning)}
}

// Load implements cache.Store.
func (s *Store) Load(ctx context.Context, key cache.Key) (*negotiate.Ticket, bool) {
	e, ok := s.entry(key)
	if !ok {
		return nil, false
	}
	b, err := s.read(ctx, e.name)
	if err != nil {
		s.count(opLoad, err)
		return nil, false
	}
	if expired(b, time.Now()) {
		s.counter(opLoad, resultMiss)
		return nil, false
	}
	t, err := e.open(b)
	if err != nil {
		s.counter(opLoad, resultUnopened)
		s.warnUnopened(err, e.identity)
		return nil, false
	}
	s.counter(opLoad, resultOK)
	return t, true
}

// Save implements cache.Store.
func (s *Store) Save(ctx context.Context, key cache.Key, t *negotiate.Ticket) {
	e, ok := s.entry(key)
	if !ok {
		return
	}
	sealed, err := e.seal(t)
	if err != nil {
		s.counter(opSave, resultFailed)
		return
	}
	s.count(opSave, s.write(ctx, e.name, sealed))
}

// Delete implements cache.Store.
func (s *Store) Delete(ctx context.Context, key cache.Key) {
	if e, ok := s.entry(key); ok {
		s.count(opDelete, s.remove(ctx, e.name))
	}
}

// warnUnopened warns of a ticket that cannot be opened, once a minute.
func (s *Store) warnUnopened(err error, id *negotiate.Identity) {
	s.mu.Lock()
	due := time.Since(s.warned) >= warnEvery
	if due {
		s.warned = time.Now()
	}
	s.mu.Unlock()
	if due {
		s.logger.Warn("a stored ticket was ignored: it was sealed with another key, or changed",
			zap.Stringer("principal", id.Principal()), zap.Error(err))
	}
}
