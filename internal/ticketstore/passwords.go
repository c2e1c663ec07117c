package ticketstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/candidate"
)

// passwordPrefix is where in Caddy's storage new passwords are kept, and their locks.
const passwordPrefix = "kerberos/passwords/"

// Passwords keeps the new passwords of accounts in Caddy's storage, for members of a fleet that have
// files of their own, and locks them. It implements rotation.Store.
//
// They are sealed with a key derived from the key of ticket_store storage KEY. Without that none is
// kept: what is derived from a keytab would change with the password.
type Passwords struct {
	*backend
	key    []byte      // nil for none
	warned atomic.Bool // of an entry that cannot be opened
}

// NewPasswords returns the passwords in a storage.
func NewPasswords(storage certmagic.Storage, key []byte, logger *zap.Logger) *Passwords {
	const warning = "Caddy's storage cannot be used; no password is changed until it works again"
	return &Passwords{backend: newBackend(storage, logger, func(string, string) {}, warning), key: key}
}

// passwordName is an entry's name. The digest makes a name of it that every storage takes.
func passwordName(p messages.Principal) string {
	digest := sha256.Sum256([]byte(p.String()))
	return passwordPrefix + hex.EncodeToString(digest[:])
}

// Load implements rotation.Store. What cannot be opened was sealed with another key, and is ignored.
func (s *Passwords) Load(ctx context.Context, p messages.Principal) (*candidate.Candidate, error) {
	if s.key == nil {
		return nil, nil
	}
	sealed, err := s.read(ctx, passwordName(p))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	c, err := candidate.Open(sealed, s.key, p.String())
	if err != nil {
		if s.warned.Swap(true) {
			return nil, nil
		}
		s.logger.Warn("a stored password was ignored: it was sealed with another key of the ticket store, or changed",
			zap.Stringer("principal", p))
		return nil, nil
	}
	return &c, nil
}

// Save implements rotation.Store.
func (s *Passwords) Save(ctx context.Context, p messages.Principal, c *candidate.Candidate) error {
	if s.key == nil {
		return nil
	}
	if c == nil {
		if err := s.remove(ctx, passwordName(p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	sealed, err := candidate.Seal(*c, s.key, p.String())
	if err != nil {
		return err
	}
	return s.write(ctx, passwordName(p), sealed)
}

// Lock implements rotation.Store.
func (s *Passwords) Lock(ctx context.Context, p messages.Principal) (unlock func(), err error) {
	if s.isDown() {
		return nil, errDown
	}
	if !s.enter() {
		return nil, errBusy
	}
	name := passwordName(p)
	waiting, stop := context.WithCancel(context.WithoutCancel(ctx)) // what ctx interrupts is no failure of the storage
	defer stop()
	granted := make(chan struct{})
	go s.acquire(waiting, name, granted)
	select {
	case _, ok := <-granted:
		if !ok {
			return nil, errors.New("the storage has no lock for it")
		}
		return func() { s.release(name) }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("another Caddy has it: %w", context.Cause(ctx))
	}
}
