package negotiate

import (
	"context"
	"errors"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// keyring holds an account's keys. When the file that they come from changes, the
// keys that worked stay until the new ones have: a file is often in place before
// the KDCs know of it, or the other way round.
type keyring struct {
	name    messages.Principal
	secret  Secret
	clock   *krb5core.Clock
	observe func(Event)

	mu      sync.Mutex
	stamp   stamp
	read    bool
	proven  *krb5core.Account // has logged in, or is the first
	fresh   *krb5core.Account // came later
	refused bool              // fresh was tried in vain
}

// reload reads the file again if it has changed. It reports whether there are
// keys that were not tried before. A file that cannot be read does no harm to
// what is held; it is reported once.
func (k *keyring) reload() (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := stamp{}
	if k.secret.Path != "" {
		now = stampOf(k.secret.Path)
	}
	if k.read && now.equal(k.stamp) {
		return false, nil
	}
	keys, err := k.secret.read()
	if err != nil {
		if k.proven == nil {
			return false, err
		}
		k.stamp = now
		k.observe(SecretBroken{Path: k.secret.Path, Err: err})
		return false, nil
	}
	first := !k.read
	k.stamp, k.read = now, true
	account := krb5core.NewAccount(k.name, keys, k.clock)
	if k.proven == nil {
		k.proven = account
	} else {
		k.fresh, k.refused = account, false
	}
	if !first {
		k.observe(SecretChanged{Path: k.secret.Path})
	}
	return !first, nil
}

// candidates gives the accounts to log in as: the one to try for good, and the
// one to try once if its key is refused (nil: none).
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

// newest is the account with the keys that were read last.
func (k *keyring) newest() *krb5core.Account {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fresh != nil {
		return k.fresh
	}
	return k.proven
}

// worked makes the account the one to be used from now on.
func (k *keyring) worked(a *krb5core.Account) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a == k.fresh {
		k.proven, k.fresh, k.refused = a, nil, false
	}
}

// failed notes that the fresh keys do not work yet, while the old ones do.
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

// LoginError says what kind of secret a login failed with, for the remedy goes by that.
type LoginError struct {
	Kind string // as in Secret
	Err  error
}

// Error is the cause's.
func (e *LoginError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *LoginError) Unwrap() error { return e.Err }

// tgt logs in with the keys at hand and, if they are refused, once with those
// that were there before or have come since.
func (k *keyring) tgt(ctx context.Context, s *Settings, preAuths int) (*messages.Credential, error) {
	first, second := k.candidates()
	cred, err := s.Client.LoginWithin(ctx, first, preAuths)
	if err == nil {
		k.worked(first)
		return cred, nil
	}
	err = &LoginError{Kind: k.secret.Kind, Err: err}
	var fail *krb5core.Error
	if second == nil || !keyRefused(err) || !errors.As(err, &fail) || fail.PreAuths >= preAuths {
		return nil, err
	}
	k.failed(first)
	cred, errSecond := s.Client.LoginOnce(ctx, second)
	if errSecond != nil {
		if again, ok := errors.AsType[*krb5core.Error](errSecond); ok {
			fail.PreAuths += again.PreAuths
			fail.KeysRefused += again.KeysRefused
		}
		return nil, err
	}
	k.worked(second)
	k.observe(SecretStale{Path: k.secret.Path, Err: err})
	return cred, nil
}

// keyRefused tells whether it was the key that the KDC did not like, and not that of
// the account that gives the FAST armor.
func keyRefused(err error) bool {
	if e, ok := errors.AsType[*krb5core.Error](err); ok && e.Op == krb5core.OpArmor {
		return false
	}
	code, ok := krb5core.Code(err)
	return ok && (code == messages.KDC_ERR_PREAUTH_FAILED || code == messages.KRB_AP_ERR_BAD_INTEGRITY ||
		code == messages.KDC_ERR_ETYPE_NOSUPP)
}

// held is nil: keys hold no tickets.
func (k *keyring) held(*Settings, SPN) *messages.Credential { return nil }
