package negotiate

import (
	"context"
	"errors"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// keyring holds an account's keys. When their file changes, the keys that worked are kept until the
// new ones have worked: a file is often replaced before the KDCs know the new keys, or after.
type keyring struct {
	name   messages.Principal
	secret Secret
	clock  *krb5core.Clock

	mu      sync.Mutex
	file    watchedFile
	proven  *krb5core.Account // has logged in, or was read first
	fresh   *krb5core.Account // was read later
	refused bool              // the KDC refused fresh
}

func (k *keyring) reload(context.Context) (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.file.reload(func() error {
		account, err := k.secret.open(k.name, k.clock)
		if err != nil {
			return err
		}
		if k.proven == nil {
			k.proven = account
		} else {
			k.fresh, k.refused = account, false
		}
		return nil
	})
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

// newest returns the account with the keys that were read last.
func (k *keyring) newest() *krb5core.Account {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fresh != nil {
		return k.fresh
	}
	return k.proven
}

// keyAccounts returns the accounts whose keys open tickets to the identity, the newest first.
func (k *keyring) keyAccounts() []*krb5core.Account { return []*krb5core.Account{k.newest()} }

// worked records that the account logged in: it is tried first from now on.
func (k *keyring) worked(a *krb5core.Account) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a == k.fresh {
		k.proven, k.fresh, k.refused = a, nil, false
	}
}

func (k *keyring) failed(a *krb5core.Account) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a == k.fresh {
		k.refused = true
	}
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
	cred, err := s.Client.Login(ctx, first, budget)
	if err == nil {
		k.worked(first)
		return cred, nil
	}
	err = &LoginError{Kind: k.secret.Kind, Err: err}
	if second == nil || !keyRefused(err) || budget.Left() <= 0 {
		return nil, err
	}
	k.failed(first)
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

// keyRefused reports whether the KDC refused the key or the certificate, and not that of the account that
// provides the FAST armor.
func keyRefused(err error) bool {
	if e, ok := errors.AsType[*krb5core.Error](err); ok && e.Op == krb5core.OpArmor {
		return false
	}
	code, ok := krb5core.Code(err)
	return ok && (code.KeyRefused() || code.CertificateRefused() || code == messages.KDC_ERR_ETYPE_NOSUPP)
}

// held is nil: keys hold no tickets.
func (k *keyring) held(*Settings, SPN) *messages.Credential { return nil }
