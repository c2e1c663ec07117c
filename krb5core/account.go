package krb5core

import (
	"crypto/x509"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
)

// An Account is a principal with its keys, and what was learnt about it: the salt of its password,
// the clock offsets of its KDCs, ticket-granting tickets for other realms. It is safe for
// concurrent use.
type Account struct {
	principal messages.Principal
	keys      exchange.KeySource
	// certificate returns the certificate to log in with, nil for an anonymous client; the field is
	// nil for an account with keys.
	certificate func() (*pkinit.Identity, error)
	clock       *Clock
	hint        atomic.Pointer[exchange.PreAuthHint] // of the last login that succeeded
	kvno        atomic.Uint32                        // of its key, 0 if the KDC named none
	// failed is true after a login that failed: the next one asks the KDC first, and proves a key
	// after a reply only.
	failed atomic.Bool

	mu sync.Mutex
	// crossRealm holds ticket-granting tickets for other realms, by the client of the TGT that they
	// were got with and the realm.
	crossRealm map[crossRealmKey]*messages.Credential
}

type crossRealmKey struct {
	client string // of the TGT: another user's ticket must never be used
	realm  string
}

// NewAccount returns the account of principal. A principal of type
// NT-ENTERPRISE is a UPN, which the KDC translates (RFC 6806, Section 5). keys come from
// [KeytabKeys] or [PasswordKeys]; clock may be nil for the system's.
func NewAccount(principal messages.Principal, keys exchange.KeySource, clock *Clock) *Account {
	if clock == nil {
		clock = NewClock(nil)
	}
	return &Account{
		principal:  principal,
		keys:       keys,
		clock:      clock,
		crossRealm: make(map[crossRealmKey]*messages.Credential),
	}
}

// WithKeys returns an account of the same principal with other keys, and with what was learnt of the
// salt of its password.
func (a *Account) WithKeys(keys exchange.KeySource) *Account {
	other := NewAccount(a.principal, keys, a.clock)
	other.hint.Store(a.hint.Load())
	return other
}

// Salted reports whether the account's keys do not depend on a salt that only a login would learn:
// it has learnt one, or has no password.
func (a *Account) Salted() bool {
	_, password := a.keys.(*passwordKeys)
	return !password || a.hint.Load() != nil
}

// LastKey describes the key that the account logged in with last, as its KDC does. It returns false before
// the first login, and if the KDC named no salt.
func (a *Account) LastKey() (exchange.KeyInfo, bool) {
	hint := a.hint.Load()
	if hint == nil {
		return exchange.KeyInfo{}, false
	}
	return exchange.KeyInfo{EType: hint.EType, Salt: hint.Salt, HasSalt: hint.HasSalt, Params: hint.Params, KVNO: a.kvno.Load()}, true
}

// NewCertificateAccount returns the account of principal, which logs in by PKINIT (RFC 4556) with
// the certificate that the function returns at each login.
func NewCertificateAccount(principal messages.Principal, certificate func() (*pkinit.Identity, error), clock *Clock) *Account {
	a := NewAccount(principal, nil, clock)
	a.certificate = certificate
	return a
}

// Principal is the name as configured; the credential that Login returns has the name as corrected
// by the KDC.
func (a *Account) Principal() messages.Principal { return a.principal }

// Certificate returns the certificate that the account logs in with now, nil if it has none.
func (a *Account) Certificate() *x509.Certificate {
	if a.certificate == nil {
		return nil
	}
	if id, err := a.certificate(); err == nil && id != nil {
		return id.Leaf()
	}
	return nil
}

// Keys is where the account's keys come from.
func (a *Account) Keys() exchange.KeySource { return a.keys }

// HeldKeys lists the keys that the account has, the newest version first. For a password these are
// the keys that KDCs have requested so far. It is empty for an account without keys.
func (a *Account) HeldKeys() []HeldKey {
	if keys, ok := a.keys.(interface{ held() []HeldKey }); ok {
		return keys.held()
	}
	return nil
}

// KeyMaterial returns bytes that are as secret as the account's keys, and change with them: to derive
// from. A password gives a key with the salt. It is nil for an account without keys.
func (a *Account) KeyMaterial(salt string) []byte {
	if keys, ok := a.keys.(interface{ material(salt string) []byte }); ok {
		return keys.material(salt)
	}
	return nil
}

// remember keeps ticket-granting tickets that were got on the way to the realm goal, which is empty
// if only the KDCs knew it: those that our own KDC issued, and the last one. A realm in between may
// refer to its own services as it likes, but must not decide which session key protects all
// requests to a third realm.
func (a *Account) remember(tgts []*messages.Credential, goal string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, tgt := range tgts {
		name := tgt.Service.Name.NameString
		if len(name) != 2 || tgt.Service.Realm != tgt.Client.Realm && name[1] != goal {
			continue
		}
		if len(a.crossRealm) >= maxRealms {
			clear(a.crossRealm)
		}
		a.crossRealm[crossRealmKey{tgt.Client.String(), name[1]}] = tgt
	}
}

// known returns a remembered ticket-granting ticket for the realm if it lasts a minute longer.
func (a *Account) known(client messages.Principal) func(realm string) *messages.Credential {
	return func(realm string) *messages.Credential {
		a.mu.Lock()
		defer a.mu.Unlock()
		key := crossRealmKey{client.String(), realm}
		tgt := a.crossRealm[key]
		if tgt != nil && tgt.EndTime.Before(a.clock.Now(realm).Add(time.Minute)) {
			delete(a.crossRealm, key)
			return nil
		}
		return tgt
	}
}

// learnt is an offset that a machine found, beyond the one that it began with.
type learnt struct {
	offset    time.Duration
	confirmed bool
	realm     string // whose; any if offset is 0
	maxSkew   time.Duration
}

// learn takes over the offset that a machine learnt which used the clock of the base realm. The KDC
// of the realm end accepted that time: what was known of its clock is kept only if the two agree
// within the skew.
func (a *Account) learn(base string, l learnt, end string) {
	used := a.clock.Offset(base) + l.offset
	if l.offset != 0 {
		if !l.confirmed {
			return
		}
		a.clock.Learn(l.realm, used)
	}
	if (a.clock.Offset(end) - used).Abs() > l.maxSkew {
		a.clock.Learn(end, used)
	}
}

// Forget drops what was learnt about other realms and pre-authentication, so that the next
// exchanges start without it.
func (a *Account) Forget() {
	a.hint.Store(nil)
	a.failed.Store(false)
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.crossRealm)
}
