package rotation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/internal/logging"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kpasswd"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/candidate"
)

// How long to wait. All are bounded by the age at which the password is changed.
const (
	lookEvery    = time.Minute     // for a changed file, and for the candidates of other members
	retryPause   = 5 * time.Minute // after a failure, doubled after each further one up to retryLongest
	retryLongest = time.Hour
	refusedPause = 24 * time.Hour // after a refusal by policy
	leastPause   = time.Minute
	leastLook    = 100 * time.Millisecond

	lockWait = 30 * time.Second // for another member, or for the lock of one that was killed
	most     = 2 * time.Minute  // for a change
)

// A Rotation changes the password of one account. It is safe for concurrent use.
type Rotation struct {
	account

	mu    sync.Mutex
	until time.Time // nothing is tried before

	failures int // in a row
}

// New returns the rotation of an account. It does nothing before Run.
func New(cfg Config) *Rotation {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Rotation{account: account{cfg}}
}

// Run changes the password whenever it is due, until ctx ends. A change that has begun is completed.
func (r *Rotation) Run(ctx context.Context, i *negotiate.Initiator) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if r.pause() <= 0 && r.wanted(ctx) {
			r.settle(r.change(ctx, i))
		}
		timer.Reset(min(max(r.pause(), r.untilDue(), leastLook), lookEvery))
	}
}

// pauseAfter sets the pause after a change or a failure, and returns its end.
func (r *Rotation) pauseAfter(err error) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.failures, r.until = 0, time.Time{}
		return r.until
	}
	pause := min(retryPause<<min(r.failures, 8), retryLongest)
	r.failures++
	if _, ok := errors.AsType[*kpasswd.RefusedError](err); ok {
		pause = refusedPause
	}
	r.until = r.cfg.Now().Add(max(min(pause, r.cfg.Secret.RotateEvery), leastPause))
	return r.until
}

// pause is how long nothing is to be tried.
func (r *Rotation) pause() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.until.Sub(r.cfg.Now())
}

// wanted reports whether a change is due, or one that was begun, here or by another member, is to be
// completed.
func (r *Rotation) wanted(ctx context.Context) bool {
	if _, err := os.Stat(candidate.Path(r.cfg.Secret.Path)); err == nil {
		return true
	}
	return r.untilDue() <= 0 || r.newer(ctx) != nil
}

// Next returns the password that another member has set, or may have; empty if the file is newer. It is
// for logins until this member has written its own file.
func (r *Rotation) Next(ctx context.Context) string {
	if c := r.newer(ctx); c != nil {
		return c.Password
	}
	return ""
}

// change changes the password, or completes a change.
func (r *Rotation) change(ctx context.Context, i *negotiate.Initiator) error {
	store := r.cfg.Store()
	if store == nil {
		return errors.New("no storage is in use yet")
	}
	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	unlock, err := store.Lock(waiting, r.cfg.Principal)
	if err != nil {
		return fmt.Errorf("waiting for the lock in Caddy's storage: %w", err)
	}
	defer unlock()
	// From here on the configuration may end: a change that has begun is completed.
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), most)
	defer cancel()
	a := attempt{account: &r.account, ctx: ctx, store: store}
	if err := i.ChangePassword(ctx, a.run); err != nil {
		return &loginError{err}
	}
	return a.failed
}

// loginError is the failure of a login, which is logged like any other's.
type loginError struct{ error }

func (e *loginError) Unwrap() error { return e.error }

// settle sets the pause after a change, and logs why there was none.
func (r *Rotation) settle(err error) {
	until := r.pauseAfter(err)
	if err == nil {
		return
	}
	fields := r.fields(zap.Time("not_before", until))
	if _, ok := errors.AsType[*loginError](err); ok {
		r.log().Warn("the password is not changed, because the login fails", fields...)
		return
	}
	if _, ok := errors.AsType[*krb5core.Error](err); ok {
		r.log().Error("the password is not changed", logging.ErrorFields(err, fields...)...)
		return
	}
	r.log().Error("the password is not changed", append(fields, zap.Error(err))...)
}
