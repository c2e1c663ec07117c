package krb5core

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// An Account is a principal with its keys, and what was learnt of it: how its
// password is salted, what time its KDCs think it is, which realms' ticket-granting
// tickets were met on the way. It is safe for concurrent use.
type Account struct {
	principal messages.Principal
	keys      exchange.KeySource
	clock     *Clock
	hint      atomic.Pointer[exchange.PreAuthHint]
	// bound says that our KDCs bind their answers to S4U2Self to the user asked for.
	bound atomic.Bool

	mu sync.Mutex
	// crossRealm holds ticket-granting tickets for other realms, by the session
	// that they were won with and the realm.
	crossRealm map[crossRealmKey]*messages.Credential
}

type crossRealmKey struct {
	client string // who the TGT is for: another user's must never be taken
	realm  string
}

// NewAccount returns the account of principal. A principal of type
// NT-ENTERPRISE is a UPN, which the KDC translates (RFC 6806 5). keys come from
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

// Principal is the name as it was given; what the KDC made of it stands in the
// credential that Login returns.
func (a *Account) Principal() messages.Principal { return a.principal }

// Clock is the account's clock.
func (a *Account) Clock() *Clock { return a.clock }

// Keys is where the account's keys come from.
func (a *Account) Keys() exchange.KeySource { return a.keys }

// canonicalize tells whether the name is only an alias of the account's.
func (a *Account) canonicalize() bool {
	return a.principal.Name.NameType == messages.KRB_NT_ENTERPRISE
}

// remember keeps ticket-granting tickets that were won on the way to a realm, which is empty if only the KDCs knew: those
// of our own KDC, and the last. Others are of realms that may refer to their own services as they like, but whose word,
// and whose session key, is not to count for all that goes to a third one.
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

// known gives a remembered ticket-granting ticket for the realm, if it serves a
// minute longer.
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

// nowAt is the time in the realm that a ticket-granting ticket is of.
func (a *Account) nowAt(tgt *messages.Credential) func() time.Time {
	realm := tgt.Service.Realm
	return func() time.Time { return a.clock.Now(realm) }
}

// Forget drops what was learnt of other realms and of pre-authentication, so that the next
// exchanges begin from nothing.
func (a *Account) Forget() {
	a.hint.Store(nil)
	a.bound.Store(false)
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.crossRealm)
}
