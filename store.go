package caddynegotiate

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// storedTickets is where in Caddy's storage tickets are kept.
const storedTickets = "kerberos/tickets/"

// A stored ticket is
//
//	version    1 octet, storeVersion
//	expiry     8 octets, seconds since 1970, big-endian
//	sealed     nonce, AES-256-GCM ciphertext of negotiate.Ticket.Marshal, tag
//
// and bound to its name and its expiry as associated data, so that whoever can
// write to the storage can delete tickets, but neither swap nor prolong them.
const (
	storeVersion = 1
	storeHeader  = 1 + 8
	maxStored    = 1 << 20 // larger than any ticket; not opened
)

const (
	// storeCalls bounds the calls to the storage that are under way: one that
	// ignores its context holds a goroutine for as long as it likes.
	storeCalls = 32
	// A storage that failed is left alone for a while, growing.
	storePauseShortest = time.Second
	storePauseLongest  = 30 * time.Second
	// storePoll is how often, while another process has the lock, it is looked
	// whether it has left what is wanted.
	storePoll = 25 * time.Millisecond
)

// storeCounts is what became of stored tickets, over all stores of the process.
var storeCounts struct {
	Loaded   atomic.Uint64 // taken from the storage
	Saved    atomic.Uint64
	Unopened atomic.Uint64 // did not open: another key, or not what was written
	Failed   atomic.Uint64 // calls to the storage that failed, or were too slow
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

// seal is what one identity's tickets are named and sealed with.
type seal struct {
	identity *negotiate.Identity
	aead     cipher.AEAD
	name     string // in the storage
}

// seal derives the keys (RFC 5869) and the entry's name, which tells who may not
// know the key nothing of whose ticket it is. It is false where there is no key:
// then nothing is stored.
func (s *ticketStore) seal(key cache.Key) (seal, bool) {
	id := s.find(key)
	if id == nil {
		return seal{}, false
	}
	secret, source := s.master, "stated"
	if secret == nil {
		long, ok := id.LongTermKey(parseETypes(key.ETypes))
		if !ok {
			return seal{}, false
		}
		secret, source = long.Bytes(), "keytab"
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "caddy-negotiate ticket store "+source, 64)
	if err != nil {
		return seal{}, false
	}
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		return seal{}, false
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return seal{}, false
	}
	principal := id.Principal()
	mac := hmac.New(sha256.New, derived[32:])
	var options [8]byte
	binary.BigEndian.PutUint32(options[:], uint32(principal.Name.NameType))
	binary.BigEndian.PutUint32(options[4:], key.Options)
	kind, _ := id.Origin()
	for _, part := range []string{
		principal.String(), kind, key.User, key.Realm, key.SPN, key.ETypes, string(options[:]),
	} {
		var length [4]byte
		binary.BigEndian.PutUint32(length[:], uint32(len(part)))
		mac.Write(length[:])
		mac.Write([]byte(part))
	}
	return seal{identity: id, aead: aead, name: storedTickets + hex.EncodeToString(mac.Sum(nil))}, true
}

// parseETypes reads the list of types that a key of the cache bears.
func parseETypes(list string) []enctype.ID {
	var types []enctype.ID
	for name := range strings.FieldsSeq(strings.Trim(list, "[]")) {
		if id, err := enctype.Parse(name); err == nil {
			types = append(types, id)
		}
	}
	return types
}

// associated is what an entry is bound to besides its key.
func (s seal) associated(header []byte) []byte {
	return append([]byte("caddy-negotiate ticket\x00"+s.name+"\x00"), header...)
}

func (s seal) close(t *negotiate.Ticket) ([]byte, error) {
	plain, err := t.Marshal()
	if err != nil {
		return nil, err
	}
	header := binary.BigEndian.AppendUint64([]byte{storeVersion}, uint64(t.Credential().EndTime.Unix()))
	// The nonce is the AEAD's own to draw.
	return s.aead.Seal(header, nil, plain, s.associated(header[:storeHeader:storeHeader])), nil //nolint:gosec // nil stands for a random one
}

// errUnopened is for what is no stored ticket of ours, or none any more.
var errUnopened = errors.New("a stored ticket does not open")

func (s seal) open(b []byte) (*negotiate.Ticket, error) {
	if len(b) < storeHeader || len(b) > maxStored || b[0] != storeVersion {
		return nil, errUnopened
	}
	plain, err := s.aead.Open(nil, nil, b[storeHeader:], s.associated(b[:storeHeader:storeHeader]))
	if err != nil {
		return nil, errUnopened
	}
	return s.identity.Unmarshal(plain)
}

// expired reads the time that stands before what is sealed. Who can write to the
// storage can write that too, and wins a fetch by it.
func expired(b []byte, now time.Time) bool {
	return len(b) >= storeHeader && int64(binary.BigEndian.Uint64(b[1:storeHeader])) <= now.Unix()
}

// Load implements cache.Store.
func (s *ticketStore) Load(ctx context.Context, key cache.Key) (*negotiate.Ticket, bool) {
	entry, ok := s.seal(key)
	if !ok {
		return nil, false
	}
	b, ok := s.read(ctx, entry.name)
	if !ok || expired(b, s.now()) {
		return nil, false
	}
	t, err := entry.open(b)
	if err != nil {
		storeCounts.Unopened.Add(1)
		s.warn(err, entry.identity)
		return nil, false
	}
	storeCounts.Loaded.Add(1)
	return t, true
}

// read gives what is stored, false if there is nothing or it cannot be had.
func (s *ticketStore) read(ctx context.Context, name string) ([]byte, bool) {
	var b []byte
	err := s.call(ctx, func(ctx context.Context) (err error) {
		b, err = s.storage.Load(ctx, name)
		return err
	})
	if err != nil {
		return nil, false // b may still be written to
	}
	return b, true
}

// Save implements cache.Store.
func (s *ticketStore) Save(ctx context.Context, key cache.Key, t *negotiate.Ticket) {
	entry, ok := s.seal(key)
	if !ok {
		return
	}
	sealed, err := entry.close(t)
	if err != nil {
		storeCounts.Failed.Add(1)
		return
	}
	if s.call(ctx, func(ctx context.Context) error { return s.storage.Store(ctx, entry.name, sealed) }) == nil {
		storeCounts.Saved.Add(1)
	}
}

// Delete implements cache.Store.
func (s *ticketStore) Delete(ctx context.Context, key cache.Key) {
	if entry, ok := s.seal(key); ok {
		_ = s.call(ctx, func(ctx context.Context) error { return s.storage.Delete(ctx, entry.name) })
	}
}

// Lock implements cache.Store. It waits until it has the lock, until whoever has
// it has left something new, or until ctx ends.
func (s *ticketStore) Lock(ctx context.Context, key cache.Key) (unlock func()) {
	entry, ok := s.seal(key)
	if !ok || s.isDown() {
		return func() {}
	}
	before, _ := s.read(ctx, entry.name)
	l, ok := s.lock(ctx, entry.name)
	if !ok {
		return func() {}
	}
	// What is read when the time is up is cancelled, and no fault of the storage.
	peek, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	tick := time.NewTicker(storePoll)
	defer tick.Stop()
	for {
		select {
		case <-l.done:
		case <-ctx.Done():
		case <-tick.C:
			if now, ok := s.read(peek, entry.name); !ok || string(now) == string(before) {
				continue
			}
		}
		return l.take()
	}
}

// storeLock is a lock that is being waited for. A storage may give it long after
// nobody wants it any more; it is given back then.
type storeLock struct {
	store  *ticketStore
	name   string
	cancel context.CancelFunc
	done   chan struct{} // closed when it was had, or cannot be

	mu        sync.Mutex
	held      bool
	abandoned bool
}

// lock begins to wait for a lock.
func (s *ticketStore) lock(ctx context.Context, name string) (*storeLock, bool) {
	if !s.enter() {
		storeCounts.Failed.Add(1)
		return nil, false
	}
	l := &storeLock{store: s, name: name, done: make(chan struct{})}
	// It is ended by take, not by ctx: how it ended tells a lock that others hold
	// from a storage that fails.
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go l.acquire(ctx)
	return l, true
}

func (l *storeLock) acquire(ctx context.Context) {
	defer l.store.leave()
	defer close(l.done)
	if err := guarded(func() error { return l.store.storage.Lock(ctx, l.name) }); err != nil {
		if ctx.Err() == nil {
			l.store.failed(err)
		}
		return
	}
	l.mu.Lock()
	l.held = true
	late := l.abandoned
	l.mu.Unlock()
	if late {
		l.release()
	}
}

// take ends the waiting, and gives the function that gives the lock back, if it
// was had.
func (l *storeLock) take() (unlock func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel()
	if !l.held {
		l.abandoned = true
		return func() {}
	}
	return func() { go l.release() }
}

func (l *storeLock) release() {
	ctx, cancel := context.WithTimeout(context.Background(), storePauseLongest)
	defer cancel()
	if err := guarded(func() error { return l.store.storage.Unlock(ctx, l.name) }); err != nil {
		l.store.failed(err)
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
		storeCounts.Failed.Add(1)
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
	storeCounts.Failed.Add(1)
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

// parseStoreKey reads the KEY of `ticket_store storage KEY`.
func parseStoreKey(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	stated, err := secretPlaceholders(text)
	if err != nil {
		return nil, err
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := encoding.DecodeString(strings.TrimSpace(stated)); err == nil && len(key) == 32 {
			return key, nil
		}
	}
	return nil, errors.New("the key is not 32 bytes in base64; make one with: openssl rand -base64 32")
}

// bounds are what an App has the process keep tickets by. Apps overlap when the
// configuration is loaded anew: what the last one that was started and not stopped
// says is in force, so that a refused configuration leaves nothing behind.
var bounds struct {
	mu    sync.Mutex
	stack []*bound
}

type bound struct {
	memory int64
	store  cache.Store[*negotiate.Ticket] // nil for memory alone
}

// enforce puts b in force.
func (b *bound) enforce() {
	bounds.mu.Lock()
	defer bounds.mu.Unlock()
	bounds.stack = append(bounds.stack, b)
	b.apply()
}

// lift takes b out of force, and puts back what was there before.
func (b *bound) lift() {
	bounds.mu.Lock()
	defer bounds.mu.Unlock()
	last := new(bound)
	kept := bounds.stack[:0]
	for _, other := range bounds.stack {
		if other != b {
			kept, last = append(kept, other), other
		}
	}
	clear(bounds.stack[len(kept):])
	bounds.stack = kept
	last.apply()
}

func (b *bound) apply() {
	tickets.SetMemory(b.memory)
	tickets.SetStore(b.store)
}

// bound makes of the app's settings what Start puts in force.
func (a *App) newBound() (*bound, error) {
	b := &bound{memory: a.TicketMemory}
	if a.TicketStore != "storage" {
		return b, nil
	}
	master, err := parseStoreKey(a.TicketStoreKey)
	if err != nil {
		return nil, fmt.Errorf("ticket_store: %w", err)
	}
	if master != nil && !hasPlaceholder(a.TicketStoreKey) {
		a.logger.Warn("the ticket store's key stands in the configuration, where whoever may read it or the admin endpoint sees it; " +
			"use ticket_store storage {env.NAME} or {file./absolute/path}")
	}
	b.store = newTicketStore(a.ctx.Storage(), master, a.logger)
	return b, nil
}

// checkStore refuses what cannot be stored: without a stated key, only a keytab's
// tickets can be sealed.
func (a *App) checkStore(secret negotiate.Secret) error {
	if a.TicketStore == "storage" && a.TicketStoreKey == "" && secret.Kind != "keytab" {
		return fmt.Errorf("ticket_store storage needs a KEY for a %s, which none can be derived from: "+
			"ticket_store storage {env.TICKET_KEY}, with 32 bytes in base64 (openssl rand -base64 32)", secret.Kind)
	}
	return nil
}

// Interface guards
var _ cache.Store[*negotiate.Ticket] = (*ticketStore)(nil)
