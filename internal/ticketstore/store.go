package ticketstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
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
	// maxCalls bounds the calls to the storage that are under way: one that ignores its
	// context blocks a goroutine for as long as it likes.
	maxCalls = 32
	// A storage that fails is not used for a while: minPause, doubled up to maxPause.
	minPause = time.Second
	maxPause = 30 * time.Second
	// warnEvery is how often tickets that cannot be opened are warned of.
	warnEvery = time.Minute
)

// The operations on stored tickets.
const (
	opLoad   = "load"
	opSave   = "save"
	opDelete = "delete"
	opLock   = "lock"
	opUnlock = "unlock"
)

// The results of operations.
const (
	resultOK       = "ok"
	resultMiss     = "miss"     // load: there is none, or it has expired
	resultUnopened = "unopened" // load: sealed with another key, or changed
	resultBusy     = "busy"     // lock: not obtained, usually because another process has it
	resultFailed   = "failed"   // the storage failed, or was too slow
	resultSkipped  = "skipped"  // the storage is not used, because it failed a moment ago
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
	cfg   Config
	calls chan struct{} // one element a call under way

	mu        sync.Mutex
	failures  int       // in a row
	downUntil time.Time // the storage is not used until then
	warned    time.Time // when a ticket that cannot be opened was last warned of
}

// New returns a store.
func New(cfg Config) *Store { return &Store{cfg: cfg, calls: make(chan struct{}, maxCalls)} }

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
		s.cfg.Count(opLoad, resultMiss)
		return nil, false
	}
	t, err := e.open(b)
	if err != nil {
		s.cfg.Count(opLoad, resultUnopened)
		s.warnUnopened(err, e.identity)
		return nil, false
	}
	s.cfg.Count(opLoad, resultOK)
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
		s.cfg.Count(opSave, resultFailed)
		return
	}
	s.count(opSave, s.call(ctx, func(ctx context.Context) error { return s.cfg.Storage.Store(ctx, e.name, sealed) }))
}

// Delete implements cache.Store.
func (s *Store) Delete(ctx context.Context, key cache.Key) {
	if e, ok := s.entry(key); ok {
		s.count(opDelete, s.call(ctx, func(ctx context.Context) error { return s.cfg.Storage.Delete(ctx, e.name) }))
	}
}

// read returns what is stored.
func (s *Store) read(ctx context.Context, name string) ([]byte, error) {
	var b []byte
	err := s.call(ctx, func(ctx context.Context) (err error) {
		b, err = s.cfg.Storage.Load(ctx, name)
		return err
	})
	if err != nil {
		return nil, err // b may still be written to
	}
	return b, nil
}

// count counts an operation by the error of its only call.
func (s *Store) count(operation string, err error) {
	switch {
	case err == nil, operation == opDelete && errors.Is(err, fs.ErrNotExist):
		s.cfg.Count(operation, resultOK)
	case operation == opLoad && errors.Is(err, fs.ErrNotExist):
		s.cfg.Count(operation, resultMiss)
	case errors.Is(err, errDown):
		s.cfg.Count(operation, resultSkipped)
	case errors.Is(err, context.Canceled): // the caller stopped waiting
	default:
		s.cfg.Count(operation, resultFailed)
	}
}

var (
	errBusy = errors.New("too many calls to the storage are under way")
	errDown = errors.New("the storage failed a moment ago")
)

// call calls the storage. When ctx ends it returns, and leaves the call running. What do
// writes may be read only if there was no error.
func (s *Store) call(ctx context.Context, do func(context.Context) error) error {
	if s.isDown() {
		return errDown
	}
	if !s.enter() {
		return errBusy
	}
	done := make(chan error, 1)
	go func() {
		defer s.leave()
		done <- s.guard(func() error { return do(ctx) })
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		s.worked()
	case errors.Is(err, context.Canceled): // the caller stopped waiting
	default:
		s.failed(err)
	}
	return err
}

// enter reports whether another call may begin; leave ends it.
func (s *Store) enter() bool {
	select {
	case s.calls <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s *Store) leave() { <-s.calls }

// guard turns a panic of the storage, which is a module of its own, into an error.
func (s *Store) guard(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the storage panicked: %v", r)
			s.cfg.Logger.Error("the storage panicked", zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
		}
	}()
	return do()
}

func (s *Store) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.downUntil)
}

func (s *Store) worked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = 0
}

// failed stops the use of the storage for a while.
func (s *Store) failed(err error) {
	s.mu.Lock()
	pause := min(maxPause, minPause<<min(s.failures, 8))
	s.failures++
	s.downUntil = time.Now().Add(pause)
	first := s.failures == 1
	s.mu.Unlock()
	if first {
		s.cfg.Logger.Warn("the ticket store cannot be used; tickets are kept in memory only until it works again", zap.Error(err))
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
		s.cfg.Logger.Warn("a stored ticket was ignored: it was sealed with another key, or changed",
			zap.Stringer("principal", id.Principal()), zap.Error(err))
	}
}
