package krb5core

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// An Armor is where the ticket-granting tickets come from that protect logins: FAST (RFC 6113 5.4). It is safe for
// concurrent use.
type Armor struct {
	account func() (*Account, error)
	read    func(realm string) (*messages.Credential, error)

	mu   sync.Mutex
	held map[string]*messages.Credential // by realm
}

// KeytabArmor logs in, without armor, with the account that the function gives whenever a ticket is needed: as a rule the
// machine's, whose key nobody guesses.
func KeytabArmor(account func() (*Account, error)) *Armor {
	return &Armor{account: account, held: make(map[string]*messages.Credential)}
}

// CCacheArmor takes a ticket for the KDC of the realm out of a credential cache that somebody else keeps filled.
func CCacheArmor(read func(realm string) (*messages.Credential, error)) *Armor {
	return &Armor{read: read}
}

// armorMargin is how long a ticket must last to be worth using as armor.
const armorMargin = time.Minute

// ticket gives the armor for a KDC of the realm; now is its time. fresh tells that it was not held before.
func (a *Armor) ticket(ctx context.Context, c *Client, realm string, now time.Time) (tgt *messages.Credential, fresh bool, err error) {
	if a.read != nil {
		tgt, err = a.read(realm)
		return tgt, true, armorError(realm, err)
	}
	a.mu.Lock()
	tgt = a.held[realm]
	a.mu.Unlock()
	if tgt != nil && tgt.EndTime.After(now.Add(armorMargin)) {
		return tgt, false, nil
	}
	if tgt, err = a.login(ctx, c, realm); err != nil {
		return nil, true, armorError(realm, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held[realm] = tgt
	return tgt, true, nil
}

// forget drops a ticket that the KDC may not have liked.
func (a *Armor) forget(realm string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.held, realm)
}

// login wins the armor's ticket, by way of its own realm if that is another.
func (a *Armor) login(ctx context.Context, c *Client, realm string) (*messages.Credential, error) {
	account, err := a.account()
	if err != nil {
		return nil, err
	}
	plain := &Client{cfg: c.cfg}
	plain.cfg.Armor = nil
	tgt, err := plain.Login(ctx, account)
	if err != nil || tgt.Service.Name.Equal(messages.TGSName(realm)) {
		return tgt, err
	}
	return plain.tgs(ctx, account, OpArmor, exchange.TGSConfig{TGT: tgt, Service: messages.TGSName(realm), Realm: realm})
}

// armorError says that it was the armor that could not be had.
func armorError(realm string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Realm: realm, Err: err}
	}
	e.Op = OpArmor
	return e
}

// armored runs a login with armor, and once more with other armor if the KDC may not have liked the one that was held.
func (c *Client) armored(ctx context.Context, a *Account, login func(context.Context, *messages.Credential) (*messages.Credential, error)) (*messages.Credential, error) {
	if c.cfg.Armor == nil {
		return login(ctx, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	realm := a.principal.Realm
	for {
		armor, fresh, err := c.cfg.Armor.ticket(ctx, c, realm, a.clock.Now(realm))
		if err != nil {
			return nil, err
		}
		tgt, err := login(ctx, armor)
		var unarmored *exchange.UnarmoredError
		if err == nil || !errors.As(err, &unarmored) {
			return tgt, err
		}
		c.cfg.Armor.forget(realm)
		if fresh {
			return nil, err
		}
	}
}

// armorText tells tickets that were won with armor from those won without.
func (c *Client) armorText() string {
	if c.cfg.Armor == nil {
		return ""
	}
	return " with FAST armor"
}
