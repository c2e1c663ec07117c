package krb5core

import (
	"context"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// An Armor is where the ticket-granting tickets come from that protect logins: FAST (RFC 6113,
// Section 5.4). It is safe for concurrent use.
type Armor struct {
	account func() (*Account, error)
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

// armorMargin is how long a ticket must last to be used as armor.
const armorMargin = time.Minute

// ticket returns the held ticket for a KDC of the realm, nil if there is none that lasts; now is
// the realm's time.
func (a *Armor) ticket(realm string, now time.Time) *messages.Credential {
	a.mu.Lock()
	defer a.mu.Unlock()
	if tgt := a.held[realm]; tgt != nil && tgt.EndTime.After(now.Add(armorMargin)) {
		return tgt
	}
	return nil
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
