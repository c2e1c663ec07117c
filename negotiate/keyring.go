package negotiate

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// keyring holds an account's keys. When their file changes, the keys that worked are kept until the
// new ones have worked: a file is often replaced before the KDCs know the new keys, or after. So it is
// with the candidate beside the file, which the KDCs know or not while the password is being changed.
type keyring struct {
	name   messages.Principal
	secret Secret
	clock  *krb5core.Clock

	mu      sync.Mutex
	file    watchedFile
	proven  *krb5core.Account // has logged in, or was read first
	fresh   *krb5core.Account // was read later
	refused bool              // the KDC refused fresh
	pending bool              // fresh is the candidate; proven is what the file has
	offered string            // the candidate that another process has, and that was taken
}

func (k *keyring) reload(context.Context) (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.file.reload(func() error {
		account, err := k.secret.Open(k.name, k.clock)
		if err != nil {
			return err
		}
		k.pending, k.offered = false, ""
		if next := k.candidate(account); next != nil {
			k.proven, k.fresh, k.refused, k.pending = account, next, false, true
		} else if k.proven == nil {
			k.proven = account
		} else {
			k.fresh, k.refused = account, false
		}
		return nil
	})
}

// offer takes a candidate of another process, until the file is written. It reports whether it is a new one.
func (k *keyring) offer(password string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if password == "" || password == k.offered {
		return false
	}
	if k.fresh != nil && !k.pending {
		k.proven = k.fresh // what the file has
	}
	k.fresh, k.refused, k.pending, k.offered = k.with(password), false, true, password
	return true
}

// candidate returns the account with the password that is beside the file, nil if there is none that
// belongs to the file's secret.
func (k *keyring) candidate(present *krb5core.Account) *krb5core.Account {
	if k.secret.Path == "" || k.secret.certificate != nil {
		return nil
	}
	c, err := ReadCandidate(k.secret.Path, present)
	if err != nil {
		return nil
	}
	return k.with(c.Password)
}

// with returns the account with a password.
func (k *keyring) with(password string) *krb5core.Account {
	return krb5core.NewAccount(k.name, krb5core.PasswordKeys(func() (string, error) { return password, nil }), k.clock)
}

// candidates returns the accounts to log in as: the one to try, and the one to try once if the
// first one's key is refused (nil: none).
func (k *keyring) candidates() (first, second *krb5core.Account) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.fresh == nil:
		return k.proven, nil
	case k.refused:
		return k.proven, k.fresh
	default:
		return k.fresh, k.proven
	}
}

// newest returns the account with the keys that were read last from the file itself.
func (k *keyring) newest() *krb5core.Account {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fresh != nil && !k.pending {
		return k.fresh
	}
	return k.proven
}

// keyAccounts returns the accounts whose keys open tickets to the identity, the newest first.
func (k *keyring) keyAccounts() []*krb5core.Account {
	k.mu.Lock()
	candidate, file, pending := k.fresh, k.proven, k.pending
	k.mu.Unlock()
	if pending {
		return []*krb5core.Account{candidate, file}
	}
	return []*krb5core.Account{k.newest()}
}

// worked records that the account logged in: it is tried first from now on.
func (k *keyring) worked(a *krb5core.Account) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a == k.fresh {
		k.proven, k.fresh, k.refused, k.pending = a, nil, false, false
	}
}

func (k *keyring) failed(a *krb5core.Account) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a == k.fresh {
		k.refused = true
	}
}

// times returns when the file was written, and when its secret is to be changed.
func (k *keyring) times() (changed, due time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if changed = k.file.modified(); k.secret.RotateEvery > 0 && !changed.IsZero() {
		due = changed.Add(k.secret.RotateEvery)
	}
	return changed, due
}

// forget lets everything be tried again.
func (k *keyring) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refused = false
	for _, a := range []*krb5core.Account{k.proven, k.fresh} {
		if a != nil {
			a.Forget()
		}
	}
}

func (k *keyring) owner() string                 { return "" }
func (k *keyring) principal() messages.Principal { return k.name }

func (k *keyring) account() *krb5core.Account {
	first, _ := k.candidates()
	return first
}

// LoginError has the kind of secret that a login failed with, on which the remedy depends.
type LoginError struct {
	Kind SecretKind
	Err  error
}

func (e *LoginError) Error() string { return e.Err.Error() }
func (e *LoginError) Unwrap() error { return e.Err }

// tgt logs in with the current keys. If they are refused, it tries once those
// that were held before, or those that have been read since.
func (k *keyring) tgt(ctx context.Context, s *Settings, budget *exchange.Budget) (*messages.Credential, error) {
	first, second := k.candidates()
	try := budget
	if second != nil { // it must have its proof
		try = exchange.NewBudget(max(budget.Left()-1, 1))
	}
	cred, err := s.Client.Login(ctx, first, try)
	if try != budget {
		budget.Charge(try)
	}
	if err == nil {
		k.worked(first)
		return cred, nil
	}
	err = &LoginError{Kind: k.secret.Kind, Err: err}
	if second == nil || !KeyRefused(err) {
		return nil, err
	}
	k.failed(first)
	if budget.Left() <= 0 {
		return nil, err
	}
	once := exchange.NewBudget(1)
	cred, errSecond := s.Client.Login(ctx, second, once)
	budget.Charge(once)
	if errSecond != nil {
		return nil, err
	}
	k.worked(second)
	k.file.observe(SecretStale{Path: k.secret.Path, Err: err})
	return cred, nil
}

// KeyRefused reports whether the KDC refused the key or the certificate, or, of an account that needs no
// pre-authentication, uses another key; not whether it did so with the account that provides the FAST armor.
func KeyRefused(err error) bool {
	if e, ok := errors.AsType[*krb5core.Error](err); ok && e.Op == krb5core.OpArmor {
		return false
	}
	if _, ok := errors.AsType[*exchange.WrongKeyError](err); ok {
		return true
	}
	code, ok := krb5core.Code(err)
	return ok && (code.KeyRefused() || code.CertificateRefused() || code == messages.KDC_ERR_ETYPE_NOSUPP)
}

// PasswordChange is what the account's password is changed with, while no other login of it is under way.
type PasswordChange struct {
	Client *krb5core.Client
	// Budget bounds the proofs of all passwords together; those of a login that failed are to be charged.
	Budget *exchange.Budget

	ring *keyring
}

// Present returns the account with the secret that its file has now.
func (p *PasswordChange) Present() (*krb5core.Account, error) {
	return p.ring.secret.Open(p.ring.name, p.ring.clock)
}

// With returns the account with a password.
func (p *PasswordChange) With(password string) *krb5core.Account { return p.ring.with(password) }

// ChangePassword has the password of an account with a keytab or a password file changed. The error of
// change is one of its logins, and counts like any other's; so change may not be called at all.
// Afterwards the file is read again.
func (i *Initiator) ChangePassword(ctx context.Context, change func(*PasswordChange) error) error {
	ring, ok := i.id.source.(*keyring)
	if !ok {
		return errors.New("an account without a keytab or a password has no password to change")
	}
	return i.exclusively(ctx, func(budget *exchange.Budget) error {
		err := change(&PasswordChange{Client: i.settings.Client, Budget: budget, ring: ring})
		_, _ = ring.reload(ctx) // a failure is reported, and leaves what is held in use
		return err
	})
}

// held is nil: keys hold no tickets.
func (k *keyring) held(*Settings, SPN) *messages.Credential { return nil }
