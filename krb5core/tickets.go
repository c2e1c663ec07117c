package krb5core

import (
	"context"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// ServiceTicket gets a ticket for a service by a ticket-granting ticket that
// Login returned (RFC 4120, Section 3.3), across realms if need be. A service whose realm
// is empty is looked for where the configuration says its host is, else in the
// client's realm, whose KDC may refer to another (RFC 6806, Section 8).
func (c *Client) ServiceTicket(ctx context.Context, a *Account, tgt *messages.Credential, service messages.Principal) (*messages.Credential, error) {
	return c.tgs(ctx, a, OpService, tgt, exchange.TGSConfig{
		Service: service.Name,
		Realm:   c.realmOf(service),
		Options: messages.KDC_OPT_FORWARDABLE,
	})
}

// Renew gets a ticket-granting ticket with a later end by one that is renewable
// and has not ended yet (RFC 4120, Section 3.3.3.1).
func (c *Client) Renew(ctx context.Context, a *Account, tgt *messages.Credential) (*messages.Credential, error) {
	return c.tgs(ctx, a, OpRenew, tgt, exchange.TGSConfig{
		Service: tgt.Service.Name,
		Realm:   tgt.Service.Realm,
		Options: messages.KDC_OPT_RENEWABLE | messages.KDC_OPT_FORWARDABLE,
		Renew:   true,
	})
}

// Forward gets a ticket-granting ticket that may be handed to a service (RFC
// 4120, Section 2.6).
func (c *Client) Forward(ctx context.Context, a *Account, tgt *messages.Credential) (*messages.Credential, error) {
	return c.tgs(ctx, a, OpForward, tgt, exchange.TGSConfig{
		Service: messages.TGSName(tgt.Service.Realm),
		Realm:   tgt.Service.Realm,
		Options: messages.KDC_OPT_FORWARDABLE | messages.KDC_OPT_FORWARDED,
	})
}

func (c *Client) tgs(ctx context.Context, a *Account, op Op, tgt *messages.Credential, cfg exchange.TGSConfig) (*messages.Credential, error) {
	cfg.Session = c.session(ctx, a, op, tgt)
	service := messages.Principal{Name: cfg.Service, Realm: cfg.Realm}
	return c.ticket(ctx, a, op, tgt, service, func() (ticketMachine, error) { return exchange.NewTGS(cfg) })
}

// ticketMachine is an exchange that uses a ticket to get another.
type ticketMachine interface {
	exchange.Machine
	Result() *exchange.TGSResult
}

func (c *Client) ticket(
	ctx context.Context, a *Account, op Op, tgt *messages.Credential, service messages.Principal, start func() (ticketMachine, error),
) (*messages.Credential, error) {
	var m ticketMachine
	out := c.exchange(ctx, func(bool) (exchange.Machine, error) {
		var err error
		m, err = start()
		return m, err
	})
	if out.err != nil {
		return nil, out.failure(Error{
			Op: op, Realm: tgt.Service.Realm, Client: tgt.Client.String(), Service: strings.TrimSuffix(service.String(), "@"),
		})
	}
	result := m.Result()
	a.remember(result.Referrals, service.Realm)
	// A KDC sets the clock of its own realm only, whatever realm it names in the ticket.
	a.learn(tgt.Service.Realm, learnt{result.Offset, result.OffsetConfirmed, result.OffsetRealm, c.cfg.MaxSkew}, result.Realm)
	return result.Credential, nil
}
