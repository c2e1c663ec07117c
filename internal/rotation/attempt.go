package rotation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/candidate"
)

// maxSecret bounds the file of a secret, in bytes.
const maxSecret = 4 << 20

// attempt is one change of a password, under the lock in the storage and while no other login is under
// way.
type attempt struct {
	*account
	ctx    context.Context
	store  Store
	change *negotiate.PasswordChange

	present *krb5core.Account    // with the secret in the file
	changed *krb5core.Account    // with the candidate
	next    *candidate.Candidate // nil for none
	before  *candidate.Candidate // what next has displaced in the storage
	stored  bool                 // next was, by this attempt
	wrong   int                  // proofs that led to no login
	failed  error                // why the password was not changed, although the account logs in
}

// run returns the error of a login.
func (a *attempt) run(change *negotiate.PasswordChange) error {
	a.change = change
	if a.failed = a.read(); a.failed != nil {
		return nil
	}
	begun := a.next != nil
	if begun {
		if done, err := a.complete(); done || err != nil {
			return err
		}
	}
	if !begun && a.untilDue() > 0 {
		return nil // another Caddy was faster
	}
	ticket, err := a.ticket()
	switch {
	case err != nil:
		return err
	case a.untilDue() <= 0:
		a.failed = a.ask(ticket, begun)
	default:
		a.failed = a.await()
	}
	return nil
}

// await deals with a candidate that is not the password, and that is not to be asked for: it is another Caddy's.
// It is dropped if the other has done so, and no request for it can be under way.
func (a *attempt) await() error {
	if a.newer(a.ctx) == nil && a.cfg.Now().Sub(a.next.Made) > retryLongest {
		return secretfile.Remove(candidate.Path(a.cfg.Secret.Path))
	}
	return errors.New("another Caddy has begun to change the password, and does not know whether it was changed")
}

// read reads the file and the candidate beside it. What was left by a crash, and a candidate that does not
// belong to the file, is removed: the file has been replaced since.
func (a *attempt) read() error {
	path := a.cfg.Secret.Path
	if err := secretfile.RemoveUnfinished(path); err != nil {
		return err
	}
	var err error
	if a.present, err = a.change.Present(); err != nil {
		return err
	}
	switch c, err := negotiate.ReadCandidate(path, a.present); {
	case err == nil:
		a.next = &c
	case errors.Is(err, candidate.ErrNotOpened):
		if err := secretfile.Remove(candidate.Path(path)); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return a.adopt()
}

// adopt takes the candidate of another member over.
func (a *attempt) adopt() error {
	c := a.newer(a.ctx)
	if c == nil || a.next != nil && !c.Made.After(a.next.Made) {
		return nil
	}
	next := *c
	a.next = &next
	return a.keep(next, a.present)
}

// complete completes a change that was begun, if the candidate is the password. The error is that of a login
// which does not tell.
func (a *attempt) complete() (done bool, err error) {
	tgt, err := a.login(1)
	if code, ok := krb5core.Code(err); ok && code == messages.KRB_AP_ERR_SKEW {
		tgt, err = a.login(exchange.MaxProofs) // the KDC has seen that the key is right; it takes another proof with its time
	}
	switch {
	case err == nil:
		a.failed = a.finish(tgt)
		return true, nil
	case negotiate.KeyRefused(err):
		return false, nil
	}
	return false, err
}

// login logs in with the candidate and at most so many proofs.
func (a *attempt) login(proofs int) (tgt *messages.Credential, err error) {
	a.changed = a.change.With(a.next.Password)
	err = a.prove(proofs, func(budget *exchange.Budget) error {
		tgt, err = a.change.Client.Login(a.ctx, a.changed, budget)
		return err
	})
	return tgt, err
}

// prove has a login made with at most so many proofs, and as many as are left of those that all logins
// of a change have together.
func (a *attempt) prove(proofs int, login func(*exchange.Budget) error) error {
	budget := exchange.NewBudget(min(proofs, a.change.Budget.Left(), exchange.MaxProofs-a.wrong))
	if budget.Left() <= 0 {
		return errNoProofs
	}
	err := login(budget)
	if err == nil {
		a.wrong += max(budget.Sent()-1, 0)
		return nil
	}
	a.wrong += budget.Sent()
	a.change.Budget.Charge(budget)
	return err
}

var errNoProofs = fmt.Errorf("no password is proved more than %d times at once", exchange.MaxProofs)

// ticket logs in with the present password, for a ticket to change it with.
func (a *attempt) ticket() (ticket *messages.Credential, err error) {
	err = a.prove(exchange.MaxProofs, func(budget *exchange.Budget) error {
		ticket, err = a.change.Client.PasswordTicket(a.ctx, a.present, budget)
		return err
	})
	return ticket, err
}

// ask has the password changed. begun reports that the candidate may have been asked for before.
func (a *attempt) ask(ticket *messages.Credential, begun bool) error {
	if _, salted := a.present.LastKey(); !salted && a.cfg.Secret.Kind == negotiate.KindKeytab {
		return errors.New("the KDC does not say how passwords are salted, so that no keys could be made: use a password_file")
	}
	if err := secretfile.Rehearse(a.cfg.Secret.Path, maxSecret); err != nil {
		return err
	}
	if err := a.choose(); err != nil {
		if begun {
			return err
		}
		return errors.Join(err, a.drop())
	}
	a.next.Made = a.cfg.Now().UTC()
	asked := a.change.Client.ChangePassword(a.ctx, a.present, ticket, a.next.Password)
	if asked != nil && !begun && !errors.Is(asked, krb5core.ErrPasswordUnknown) {
		return errors.Join(asked, a.drop())
	}
	proofs := 1
	if asked == nil {
		proofs = 2
	}
	tgt, verified := a.login(proofs)
	switch {
	case verified == nil:
		return a.finish(tgt)
	case asked != nil:
		return asked
	}
	return fmt.Errorf("the password was changed, but the new one does not log in yet: both are tried until it does: %w", verified)
}

// choose makes a candidate unless there is one, and keeps it wherever it may be looked for after a crash.
func (a *attempt) choose() error {
	if a.next == nil {
		a.next = &candidate.Candidate{Password: newPassword(a.cfg.Principal.Name.NameString), Made: a.cfg.Now().UTC().Truncate(time.Microsecond)}
		if err := a.keep(*a.next, a.present); err != nil {
			return err
		}
	}
	return a.share()
}

// share puts the candidate into the storage, where other members look for it.
func (a *attempt) share() (err error) {
	ctx, cancel := context.WithTimeout(a.ctx, storeWait)
	defer cancel()
	before, err := a.store.Load(ctx, a.cfg.Principal)
	if err == nil && before != nil && before.Password == a.next.Password {
		return nil
	}
	if err == nil {
		a.before, a.stored = before, true // what fails may have been written
		err = a.store.Save(ctx, a.cfg.Principal, a.next)
	}
	if err != nil {
		return fmt.Errorf("other Caddys could not learn the new password from the storage: %w", err)
	}
	return nil
}

// drop forgets a candidate that is not the password.
func (a *attempt) drop() (err error) {
	if a.stored {
		ctx, cancel := context.WithTimeout(a.ctx, storeWait)
		defer cancel()
		err = a.store.Save(ctx, a.cfg.Principal, a.before)
	}
	return errors.Join(err, secretfile.Remove(candidate.Path(a.cfg.Secret.Path)))
}

// newKeys returns what the keys of the candidate are made of.
func (a *attempt) newKeys(tgt *messages.Credential) (newKeys, error) {
	info, ok := a.changed.LastKey()
	if !ok {
		return newKeys{}, errors.New("the KDC does not say how the new password is salted: use a password_file")
	}
	// A KDC that does not tell the version counts from the one before.
	info.KVNO, _ = a.change.Client.KeyVersion(a.ctx, a.changed, tgt)
	return newKeys{password: a.next.Password, info: info}, nil
}

// finish writes the candidate, with which the account has logged in, into the file, whose age is then the
// candidate's.
func (a *attempt) finish(tgt *messages.Credential) error {
	if err := a.share(); err != nil { // it was not, if this Caddy was killed before
		return err
	}
	path := a.cfg.Secret.Path
	content := []byte(a.next.Password + "\n")
	if a.cfg.Secret.Kind == negotiate.KindKeytab {
		k, err := a.newKeys(tgt)
		if err == nil {
			content, err = k.keytab(path, a.cfg.Principal, a.cfg.Now())
		}
		if err != nil {
			return err
		}
	}
	if err := secretfile.Replace(path, path, content, a.next.Made); err != nil {
		return err
	}
	if err := secretfile.Remove(candidate.Path(path)); err != nil {
		return err
	}
	fields := a.fields()
	if info, err := os.Stat(path); err == nil {
		fields = append(fields, zap.Time("next_change", info.ModTime().Add(a.cfg.Secret.RotateEvery)))
	}
	a.log().Info("the password was changed", fields...)
	return nil
}
