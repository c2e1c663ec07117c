package krb5core

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Login gets a ticket-granting ticket by the account's keys (RFC 4120, Section 3.1). The first
// login of an account asks what its password is salted with; later ones know. The
// budget bounds the requests that prove a key; nil means a new budget of exchange.MaxProofs.
//
// With armor, another one is tried if the KDC may not have accepted the one that was held.
func (c *Client) Login(ctx context.Context, a *Account, budget *exchange.Budget) (*messages.Credential, error) {
	return c.initial(ctx, a, messages.PrincipalName{}, budget)
}

// initial gets a ticket for the service by the account's keys.
func (c *Client) initial(
	ctx context.Context, a *Account, service messages.PrincipalName, budget *exchange.Budget,
) (*messages.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if budget == nil {
		budget = exchange.NewBudget(exchange.MaxProofs)
	}
	if c.cfg.Armor == nil {
		return c.login(ctx, a, service, nil, budget)
	}
	for {
		armor, fresh, err := c.armor(ctx, a)
		if err != nil {
			return nil, err
		}
		tgt, err := c.login(ctx, a, service, armor, budget)
		var unarmored *exchange.UnarmoredError
		if err == nil || !errors.As(err, &unarmored) {
			return tgt, err
		}
		c.cfg.Armor.forget(a.principal.Realm)
		if fresh || budget.Left() == 0 {
			return nil, err
		}
	}
}

func (c *Client) login(
	ctx context.Context, a *Account, service messages.PrincipalName, armor *messages.Credential, budget *exchange.Budget,
) (*messages.Credential, error) {
	realm := a.principal.Realm
	cfg := exchange.ASConfig{
		Env:          c.env(ctx, OpLogin, func() time.Time { return a.clock.Now(realm) }),
		Client:       a.principal,
		Service:      service,
		Canonicalize: c.cfg.Canonicalize,
		Keys:         a.keys,
		Hint:         a.hint.Load(),
		AskFirst:     a.failed.Load(),
		Armor:        armor,
		Budget:       budget,
		Options:      messages.KDC_OPT_FORWARDABLE | messages.KDC_OPT_RENEWABLE_OK,
	}
	if !service.IsZero() { // services that need a login often permit neither
		cfg.Options = 0
	}
	if c.cfg.Realms != nil {
		cfg.Configured = c.cfg.Realms.Configured
	}
	fail := Error{Op: OpLogin, Realm: realm, Client: a.principal.String()}
	if a.certificate != nil {
		identity, err := a.certificate()
		if err != nil {
			return nil, outcome{err: err}.failure(fail)
		}
		cfg.PKINIT = &exchange.PKINIT{Identity: identity, Roots: c.cfg.PKINIT.Roots, WeakGroups: c.cfg.PKINIT.WeakGroups}
	}
	var m *exchange.AS
	out := c.exchange(ctx, func(again bool) (exchange.Machine, error) {
		if again {
			fail.salted(m.Result().Hint) // the second machine may not come as far
			cfg.AskFirst = true
		}
		if again && budget.Left() <= 0 {
			return nil, nil
		}
		var err error
		m, err = exchange.NewAS(cfg)
		return m, err
	})
	if out.err != nil {
		a.failed.Store(true)
		if m != nil {
			fail.salted(m.Result().Hint)
		}
		fail.PreAuths = budget.Sent()
		return nil, out.failure(fail)
	}
	result := m.Result()
	a.hint.Store(result.Hint)
	a.kvno.Store(result.KVNO)
	a.failed.Store(false)
	end := result.Realm
	if end == realm {
		end = result.Credential.Service.Realm // our own KDC may know its realm by another name
	}
	a.learn(realm, learnt{result.Offset, result.OffsetConfirmed, result.OffsetRealm, c.cfg.MaxSkew}, end)
	return result.Credential, nil
}

// armor returns a ticket-granting ticket for the KDC of the account's realm that protects its
// login; fresh reports that it was not held before.
func (c *Client) armor(ctx context.Context, a *Account) (tgt *messages.Credential, fresh bool, err error) {
	realm, source := a.principal.Realm, c.cfg.Armor
	if source.read != nil {
		if tgt, err = source.read(ctx, realm); err != nil {
			return nil, true, armorError(realm, err)
		}
		return tgt, true, nil
	}
	held, lasting := source.ticket(realm, a.clock.Now(realm))
	if lasting {
		return held, false, nil
	}
	if tgt, err = c.armorLogin(ctx, realm); err == nil {
		source.keep(realm, tgt)
	}
	if err != nil && held != nil {
		return held, false, nil // it is to be replaced, but not yet
	}
	return tgt, true, err
}

// armorError is the error of a login for armor for the KDC of the realm.
func armorError(realm string, err error) error {
	fail := Error{Realm: realm, Err: err}
	if e, ok := errors.AsType[*Error](err); ok {
		fail = *e
	}
	fail.Op = OpArmor
	return &fail
}

// armorLogin gets a ticket-granting ticket for the realm as the account that provides the armor,
// through the account's own realm if that is another. The guard judges the login alone: others may
// use the account in realms that can be reached.
func (c *Client) armorLogin(ctx context.Context, realm string) (tgt *messages.Credential, err error) {
	plain := &Client{cfg: c.cfg}
	plain.cfg.Armor = nil
	var account *Account
	err = c.cfg.Armor.guard(ctx, func(budget *exchange.Budget) (err error) {
		if account, err = c.cfg.Armor.account(realm); err == nil {
			tgt, err = plain.Login(ctx, account, budget)
		}
		if err != nil {
			return armorError(realm, err)
		}
		return nil
	})
	if err != nil || tgt.Service.Name.Equal(messages.TGSName(realm)) {
		return tgt, err
	}
	if tgt, err = plain.tgs(ctx, account, OpArmor, tgt, exchange.TGSConfig{Service: messages.TGSName(realm), Realm: realm}); err != nil {
		return nil, armorError(realm, err)
	}
	return tgt, nil
}
