package caddynegotiate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// storedTickets is where in Caddy's storage tickets are kept.
const storedTickets = "kerberos/tickets/"

const (
	// storeCalls bounds the calls to the storage that are under way: one that
	// ignores its context holds a goroutine for as long as it likes.
	storeCalls = 32
	// A storage that failed is left alone for a while, growing.
	storePauseShortest = time.Second
	storePauseLongest  = 30 * time.Second
)

// The operations on stored tickets that are counted, and what comes of them.
const (
	opLoad   = "load"
	opSave   = "save"
	opDelete = "delete"
	opLock   = "lock"
	opUnlock = "unlock"

	storeOK       = "ok"
	storeMiss     = "miss"     // load: there is none, or it has expired
	storeUnopened = "unopened" // load: another key, or not what was written
	storeBusy     = "busy"     // lock: it was not had, as a rule because another process has it
	storeFailed   = "failed"   // the storage failed, or was too slow
	storeSkipped  = "skipped"  // it is left alone, because it failed a moment ago
)

// countStore counts an operation.
func countStore(operation, result string) { storeOperations.WithLabelValues(operation, result).Inc() }

// countCall counts an operation that comes down to one call of the storage.
func countCall(operation string, err error) {
	switch {
	case err == nil, operation == opDelete && errors.Is(err, fs.ErrNotExist):
		countStore(operation, storeOK)
	case operation == opLoad && errors.Is(err, fs.ErrNotExist):
		countStore(operation, storeMiss)
	case errors.Is(err, errStoreDown):
		countStore(operation, storeSkipped)
	case errors.Is(err, context.Canceled): // somebody stopped waiting
	default:
		countStore(operation, storeFailed)
	}
}

// ticketStore keeps tickets in Caddy's storage, sealed, for a fleet and over
// restarts. It is a cache.Store.
type ticketStore struct {
	storage certmagic.Storage
	master  []byte // the KEY that was stated, nil for keys derived of keytabs
	logger  *zap.Logger
	now     func() time.Time
	find    func(cache.Key) *negotiate.Identity
	calls   chan struct{}

	mu       sync.Mutex
	failures int
	down     time.Time // the storage is left alone until then
	warned   time.Time // when a ticket that does not open was last warned of
}

func newTicketStore(storage certmagic.Storage, master []byte, logger *zap.Logger) *ticketStore {
	return &ticketStore{
		storage: storage, master: master, logger: logger, now: time.Now, find: identityOf,
		calls: make(chan struct{}, storeCalls),
	}
}

// identityOf gives the identity that a key of the cache belongs to, nil if it is gone.
func identityOf(key cache.Key) *negotiate.Identity {
	var found *negotiate.Identity
	identities.Range(func(_, value any) bool {
		if p, ok := value.(pooled); ok && p.Owns(key) {
			found = p.Identity
		}
		return found == nil
	})
	return found
}

// Load implements cache.Store.
func (s *ticketStore) Load(ctx context.Context, key cache.Key) (*negotiate.Ticket, bool) {
	entry, ok := s.seal(key)
	if !ok {
		return nil, false
	}
	b, err := s.read(ctx, entry.name)
	if err != nil {
		countCall(opLoad, err)
		return nil, false
	}
	if expired(b, s.now()) {
		countStore(opLoad, storeMiss)
		return nil, false
	}
	t, err := entry.open(b)
	if err != nil {
		countStore(opLoad, storeUnopened)
		s.warn(err, entry.identity)
		return nil, false
	}
	countStore(opLoad, storeOK)
	return t, true
}

// read gives what is stored.
func (s *ticketStore) read(ctx context.Context, name string) ([]byte, error) {
	var b []byte
	err := s.call(ctx, func(ctx context.Context) (err error) {
		b, err = s.storage.Load(ctx, name)
		return err
	})
	if err != nil {
		return nil, err // b may still be written to
	}
	return b, nil
}

// Save implements cache.Store.
func (s *ticketStore) Save(ctx context.Context, key cache.Key, t *negotiate.Ticket) {
	entry, ok := s.seal(key)
	if !ok {
		return
	}
	sealed, err := entry.close(t)
	if err != nil {
		countStore(opSave, storeFailed)
		return
	}
	countCall(opSave, s.call(ctx, func(ctx context.Context) error { return s.storage.Store(ctx, entry.name, sealed) }))
}

// Delete implements cache.Store.
func (s *ticketStore) Delete(ctx context.Context, key cache.Key) {
	if entry, ok := s.seal(key); ok {
		countCall(opDelete, s.call(ctx, func(ctx context.Context) error { return s.storage.Delete(ctx, entry.name) }))
	}
}

var (
	errStoreBusy = errors.New("too many calls to the storage are under way")
	errStoreDown = errors.New("the storage failed a moment ago")
)

func (s *ticketStore) enter() bool {
	select {
	case s.calls <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s *ticketStore) leave() { <-s.calls }

func (s *ticketStore) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now().Before(s.down)
}

// call calls the storage, and leaves it to itself when ctx ends. What do writes may
// be read only if there was no error.
func (s *ticketStore) call(ctx context.Context, do func(context.Context) error) error {
	if s.isDown() {
		return errStoreDown
	}
	if !s.enter() {
		return errStoreBusy
	}
	done := make(chan error, 1)
	go func() {
		defer s.leave()
		done <- guarded(func() error { return do(ctx) })
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		s.mu.Lock()
		s.failures = 0
		s.mu.Unlock()
	case errors.Is(err, context.Canceled): // somebody stopped waiting
	default:
		s.failed(err)
	}
	return err
}

// failed leaves the storage alone for a while.
func (s *ticketStore) failed(err error) {
	s.mu.Lock()
	pause := min(storePauseLongest, storePauseShortest<<min(s.failures, 8))
	s.failures++
	s.down = s.now().Add(pause)
	first := s.failures == 1
	s.mu.Unlock()
	if first {
		s.logger.Warn("the ticket store cannot be used; tickets are kept in memory alone meanwhile", zap.Error(err))
	}
}

// warn tells of a ticket that does not open, once a minute.
func (s *ticketStore) warn(err error, id *negotiate.Identity) {
	s.mu.Lock()
	due := s.now().Sub(s.warned) >= time.Minute
	if due {
		s.warned = s.now()
	}
	s.mu.Unlock()
	if due {
		s.logger.Warn("a stored ticket was passed over: it was sealed with another key, or changed",
			zap.String("principal", id.Principal().String()), zap.Error(err))
	}
}

// guarded makes an error of a storage's panic.
func guarded(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the storage panicked: %v", r)
		}
	}()
	return do()
}

// Interface guards
var _ cache.Store[*negotiate.Ticket] = (*ticketStore)(nil)
