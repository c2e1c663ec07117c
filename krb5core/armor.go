package krb5core

import (
	"context"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
)

// An Armor is where the ticket-granting tickets come from that protect logins: FAST (RFC 6113,
// Section 5.4). It is safe for concurrent use.
type Armor struct {
	account func(realm string) (*Account, error)
	guard   ArmorGuard
	read    func(ctx context.Context, realm string) (*messages.Credential, error)

	mu   sync.Mutex
	held map[string]*messages.Credential // by realm
}

// An ArmorGuard runs a login of the account that provides armor, with the budget of its proofs. It
// may return an error without running it: several clients may use one account, whose proofs count
// together.
type ArmorGuard func(ctx context.Context, login func(*exchange.Budget) error) error

// KeytabArmor logs in, without armor, as the account that the function returns whenever a ticket is
// needed: usually the machine's, whose key is random. A nil guard gives each login a budget of
// exchange.MaxProofs.
func KeytabArmor(account func() (*Account, error), guard ArmorGuard) *Armor {
	return newArmor(func(string) (*Account, error) { return account() }, guard)
}

// AnonymousArmor logs in without an account, by anonymous PKINIT (RFC 8062): the KDC proves by its
// certificate who it is, and no secret is needed.
func AnonymousArmor() *Armor {
	clock := NewClock(nil)
	noIdentity := func() (*pkinit.Identity, error) { return nil, nil }
	return newArmor(func(realm string) (*Account, error) {
		return NewCertificateAccount(exchange.AnonymousClient(realm), noIdentity, clock), nil
	}, nil)
}

func newArmor(account func(realm string) (*Account, error), guard ArmorGuard) *Armor {
	if guard == nil {
		guard = func(_ context.Context, login func(*exchange.Budget) error) error {
			return login(exchange.NewBudget(exchange.MaxProofs))
		}
	}
	return &Armor{account: account, guard: guard, held: make(map[string]*messages.Credential)}
}

// CCacheArmor takes a ticket for the KDC of the realm out of a credential cache that another
// program keeps filled.
func CCacheArmor(read func(ctx context.Context, realm string) (*messages.Credential, error)) *Armor {
	return &Armor{read: read}
}

const (
	// armorMargin is how long a ticket must last to be used as armor.
	armorMargin = time.Minute
	// armorLasting is the share of its life after which a ticket is replaced before it is used.
	armorLasting = 0.8
)

// ticket returns the held ticket for a KDC of the realm, nil if there is none that can be used, and
// whether it is to be replaced first if that is possible; now is the realm's time.
func (a *Armor) ticket(realm string, now time.Time) (tgt *messages.Credential, lasting bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if tgt = a.held[realm]; tgt == nil || !tgt.EndTime.After(now.Add(armorMargin)) {
		return nil, false
	}
	life := tgt.EndTime.Sub(tgt.Start())
	return tgt, float64(now.Sub(tgt.Start())) < armorLasting*float64(life)
}

func (a *Armor) keep(realm string, tgt *messages.Credential) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held[realm] = tgt
}

// forget drops a ticket that the KDC may not have accepted.
func (a *Armor) forget(realm string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.held, realm)
}
