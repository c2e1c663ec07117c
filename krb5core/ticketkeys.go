package krb5core

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// TicketKey is a key that tickets to an account may be encrypted with.
type TicketKey struct {
	// Principal is whose key it is: in a keytab other names of the account can have entries of
	// their own.
	Principal messages.Principal
	Key       enctype.Key
	// KVNO is the key's version, 0 if it is not known, as of a password's key.
	KVNO uint32
}

// TicketKeys returns the keys that open tickets to the account: those of all principals of its
// keytab, or those that its password has with the salts that the KDC names. For a password the KDC
// is asked, by a request that proves no key and so locks nothing; a keytab needs no KDC. Types that
// the client does not permit are left out. An account with neither has no keys.
func (c *Client) TicketKeys(ctx context.Context, a *Account) ([]TicketKey, error) {
	switch source := a.keys.(type) {
	case keytabKeys:
		return c.keytabTicketKeys(source), nil
	case *passwordKeys:
		return c.passwordTicketKeys(ctx, a, source)
	}
	return nil, nil
}

func (c *Client) keytabTicketKeys(source keytabKeys) []TicketKey {
	var all []TicketKey
	for _, principal := range source.file.Principals() {
		for _, e := range source.file.Keys(principal) { // the newest first
			if slices.Contains(c.cfg.ETypes, e.Key.EType()) {
				all = append(all, TicketKey{e.Principal, e.Key, e.KVNO})
			}
		}
	}
	return all
}

func (c *Client) passwordTicketKeys(ctx context.Context, a *Account, source *passwordKeys) ([]TicketKey, error) {
	infos, err := c.salts(ctx, a)
	if err != nil {
		return nil, err
	}
	all := make([]TicketKey, 0, len(infos))
	for _, info := range infos {
		key, err := source.Key(info)
		if err != nil {
			return nil, &Error{Op: OpLogin, Realm: a.principal.Realm, Client: a.principal.String(), Err: err}
		}
		all = append(all, TicketKey{Principal: a.principal, Key: key})
	}
	return all, nil
}

// KeyPrincipal is whose entries of a keytab are the account's own; without a keytab the account
// itself.
func (a *Account) KeyPrincipal() messages.Principal {
	if keys, ok := a.keys.(keytabKeys); ok {
		return keys.principal
	}
	return a.principal
}

// salts asks the KDC what the account's password is salted with, for each permitted type: a login
// that ends where a key would be proved.
func (c *Client) salts(ctx context.Context, a *Account) ([]exchange.KeyInfo, error) {
	named := new(namedKeys)
	probe := NewAccount(a.principal, named, a.clock)
	_, err := c.Login(ctx, probe, exchange.NewBudget(1))
	if infos := named.list(); len(infos) > 0 {
		return infos, nil
	}
	return nil, err
}

// namedKeys is a KeySource that holds no key and notes which ones the KDC names. What a KDC says
// over TCP comes later than what a datagram has said, and takes its place.
type namedKeys struct {
	mu    sync.Mutex
	infos []exchange.KeyInfo // one of each type
}

// errNoted ends the exchange: unlike ErrNoKey it does not make the reply a foreign one.
var errNoted = errors.New("the key is not needed")

// ETypes is nil: any type is of interest.
func (n *namedKeys) ETypes() []enctype.ID { return nil }

// Key notes the key.
func (n *namedKeys) Key(info exchange.KeyInfo) (enctype.Key, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	info.KVNO = 0
	if i := slices.IndexFunc(n.infos, func(of exchange.KeyInfo) bool { return of.EType == info.EType }); i >= 0 {
		n.infos[i] = info
	} else {
		n.infos = append(n.infos, info)
	}
	return enctype.Key{}, errNoted
}

func (n *namedKeys) list() []exchange.KeyInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.infos)
}
