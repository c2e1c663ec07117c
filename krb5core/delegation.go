package krb5core

import (
	"context"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// TicketForUser gets a ticket to the account itself in the name of a user who has not presented
// one, by protocol transition ([MS-SFU] 3.1.5.1.1, S4U2Self). It is the evidence that
// TicketOnBehalf takes. It may come back not forwardable, which is no refusal. The user is proven by
// the KDC's PA-S4U-X509-USER, or by the ticket and its PAC if one of the account's keys opens it;
// else the error wraps [exchange.ErrUserNotProven].
func (c *Client) TicketForUser(ctx context.Context, a *Account, tgt *messages.Credential, user messages.Principal) (*messages.Credential, error) {
	cfg := exchange.S4U2SelfConfig{
		Session: c.session(ctx, a, OpS4USelf, tgt),
		Service: tgt.Client.Name,
		User:    user,
		Keys:    a.keys,
		Hint:    a.hint.Load(),
		Options: messages.KDC_OPT_FORWARDABLE,
	}
	return c.ticket(ctx, a, OpS4USelf, tgt, user, func() (ticketMachine, error) { return exchange.NewS4U2Self(cfg) })
}

// TicketOnBehalf gets a ticket for a service in a user's name, by evidence, the user's ticket to
// the account ([MS-SFU] 3.1.5.2, S4U2Proxy): by constrained delegation, resource-based or not, as
// the KDC allows it. The account's own KDC is asked for the service in whatever realm, as Windows
// clients do, and refers to other realms; if it does not know the service, the configured realm is
// tried.
func (c *Client) TicketOnBehalf(ctx context.Context, a *Account, tgt, evidence *messages.Credential, service messages.Principal) (*messages.Credential, error) {
	cred, err := c.onBehalf(ctx, a, tgt, evidence, service, "")
	realm := c.realmOf(service)
	code, refused := Code(err)
	if refused && code == messages.KDC_ERR_S_PRINCIPAL_UNKNOWN && realm != "" && !strings.EqualFold(realm, tgt.Client.Realm) {
		return c.onBehalf(ctx, a, tgt, evidence, service, realm)
	}
	return cred, err
}

func (c *Client) onBehalf(
	ctx context.Context, a *Account, tgt, evidence *messages.Credential, service messages.Principal, realm string,
) (*messages.Credential, error) {
	cfg := exchange.S4U2ProxyConfig{
		Session:  c.session(ctx, a, OpS4UProxy, tgt),
		Evidence: evidence,
		Service:  service.Name,
		Realm:    realm,
		Options:  messages.KDC_OPT_FORWARDABLE,
	}
	return c.ticket(ctx, a, OpS4UProxy, tgt, service, func() (ticketMachine, error) { return exchange.NewS4U2Proxy(cfg) })
}
