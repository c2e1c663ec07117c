package rotation

import (
	"context"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/candidate"
)

// Store is what the Caddys that share a storage know of one another. It is safe for concurrent use, and
// each call returns soon after its context ends.
type Store interface {
	// Lock waits until no other process changes the principal's password.
	Lock(ctx context.Context, p messages.Principal) (unlock func(), err error)
	// Load returns the newest candidate of the principal; nil if there is none, or no key to open one.
	Load(ctx context.Context, p messages.Principal) (*candidate.Candidate, error)
	// Save stores a candidate, if there is a key to seal it with; nil removes what is stored.
	Save(ctx context.Context, p messages.Principal, c *candidate.Candidate) error
}

// Config configures a Rotation.
type Config struct {
	Principal messages.Principal
	Secret    negotiate.Secret // with a file, and RotateEvery set
	// Store returns what other Caddys share; nil while there is nothing.
	Store func() Store
	// Logger returns the logger for changes.
	Logger func() *zap.Logger
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// storeWait bounds a call of the store.
const storeWait = 5 * time.Second

// account is the account whose password is changed, and what is kept of it: in the file, beside it, and
// in the storage.
type account struct{ cfg Config }

// untilDue is how long the file is still young enough.
func (a *account) untilDue() time.Duration {
	info, err := os.Stat(a.cfg.Secret.Path)
	if err != nil {
		return storeWait // look again
	}
	return info.ModTime().Add(a.cfg.Secret.RotateEvery).Sub(a.cfg.Now())
}

// newer returns the candidate in the storage if it is newer than the file; nil if not.
func (a *account) newer(ctx context.Context) *candidate.Candidate {
	store := a.cfg.Store()
	info, err := os.Stat(a.cfg.Secret.Path)
	if store == nil || err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	c, err := store.Load(ctx, a.cfg.Principal)
	if err != nil || c == nil {
		return nil // a failure is logged by the store
	}
	const resolution = 2 * time.Second // of the times that file systems keep
	if c.Made.Sub(info.ModTime()) < resolution {
		return nil
	}
	return c
}

// keep writes a candidate beside the file.
func (a *account) keep(c candidate.Candidate, present *krb5core.Account) error {
	sealed, err := negotiate.SealCandidate(c, present)
	if err != nil {
		return err
	}
	path := a.cfg.Secret.Path
	return secretfile.Replace(candidate.Path(path), path, sealed, time.Time{})
}

func (a *account) log() *zap.Logger { return a.cfg.Logger() }

func (a *account) fields(more ...zap.Field) []zap.Field {
	return append([]zap.Field{zap.Stringer("principal", a.cfg.Principal), zap.String("path", a.cfg.Secret.Path)}, more...)
}
