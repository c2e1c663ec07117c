package krb5core

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// TicketForUser gets a ticket to ourselves in the name of a user who has not
// shown us one, by protocol transition ([MS-SFU] 3.1.5.1.1, S4U2Self). It is the
// evidence that TicketOnBehalf takes. It may come back not forwardable, which is no verdict.
// If the account's keys open it, it is seen to be the user's; and once a KDC has bound
// its answer to the user asked for, the next ones must. An account without keys, of a
// credential cache, should use FAST, or else trusts the network up to the KDC.
func (c *Client) TicketForUser(ctx context.Context, a *Account, tgt *messages.Credential, user messages.Principal) (*messages.Credential, error) {
	cfg := exchange.S4U2SelfConfig{
		TGT:      tgt,
		Service:  tgt.Client.Name,
		User:     user,
		Keys:     a.keys,
		Hint:     a.hint.Load(),
		Bound:    a.bound.Load(),
		ETypes:   c.cfg.ETypes,
		Options:  messages.KDC_OPT_FORWARDABLE,
		Lifetime: c.cfg.Lifetime,
		Known:    a.known(tgt.Client),
		CAPath:   c.caPath(),
		FAST:     c.cfg.Armor != nil,
		Now:      a.nowAt(tgt),
		Rand:     c.cfg.Rand,
		MaxSkew:  c.cfg.MaxSkew,
		Trace:    c.trace(ctx, OpS4USelf),
	}
	var self *exchange.S4U2Self
	cred, err := c.ask(ctx, a, OpS4USelf, tgt, user, func() (ticketMachine, error) {
		var err error
		self, err = exchange.NewS4U2Self(cfg)
		return self, err
	})
	if err == nil && self.Bound() {
		a.bound.Store(true)
	}
	return cred, err
}

// TicketOnBehalf gets a ticket for a service in a user's name, on the evidence of
// the user's ticket to ourselves ([MS-SFU] 3.1.5.2, S4U2Proxy): by constrained
// delegation, resource-based or not, as the KDC allows it. Our own KDC is asked for
// the service wherever it may be, as Windows' clients do, and refers to other realms;
// if it does not know the service, the way to the realm that we know is asked for.
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
		TGT:      tgt,
		Evidence: evidence,
		Service:  service.Name,
		Realm:    realm,
		ETypes:   c.cfg.ETypes,
		Options:  messages.KDC_OPT_FORWARDABLE,
		Lifetime: c.cfg.Lifetime,
		Known:    a.known(tgt.Client),
		CAPath:   c.caPath(),
		FAST:     c.cfg.Armor != nil,
		Now:      a.nowAt(tgt),
		Rand:     c.cfg.Rand,
		MaxSkew:  c.cfg.MaxSkew,
		Trace:    c.trace(ctx, OpS4UProxy),
	}
	return c.ask(ctx, a, OpS4UProxy, tgt, service, func() (ticketMachine, error) { return exchange.NewS4U2Proxy(cfg) })
}

// ErrEndUser is wrapped by the errors of [ParseEndUser].
var ErrEndUser = errors.New("not the name of a user")

// maxEndUser bounds the length of an end user's name: Active Directory allows a
// UPN 1024 characters, nobody uses more than these.
const maxEndUser = 512

// oddInUser tells what is part of no user's name: a slash, which parts a service from
// its host, and what cannot be seen, which Active Directory passes over when it compares
// names, so that one user could go by another's.
func oddInUser(r rune) bool {
	return r == '/' || unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// ParseEndUser reads the name of a user to act for, as authentication providers
// give it: alice, CORP\alice, or alice@corp.example. The last is a user principal
// name, whatever follows the @; the KDC finds whose it is (RFC 6806 5).
func ParseEndUser(user string, form UserForm) (messages.Principal, error) {
	switch {
	case user == "" || len(user) > maxEndUser || !utf8.ValidString(user):
		return messages.Principal{}, fmt.Errorf("%w: %.64q is empty, too long, or not UTF-8", ErrEndUser, user)
	case strings.ContainsFunc(user, oddInUser) || strings.TrimSpace(user) != user:
		return messages.Principal{}, fmt.Errorf("%w: %.64q has a slash, a space at an end, or what cannot be seen", ErrEndUser, user)
	}
	if at := strings.LastIndexByte(user, '@'); at >= 0 {
		if at == 0 || at == len(user)-1 || strings.Contains(user, `\`) {
			return messages.Principal{}, fmt.Errorf("%w: %.64q has nothing before or after the @, or a backslash beside it", ErrEndUser, user)
		}
		return messages.Principal{
			Name:  messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, user),
			Realm: form.Default,
		}, nil
	}
	domain, name, inDomain := strings.Cut(user, `\`)
	realm := form.Default
	if inDomain {
		if realm = ""; form.NetBIOS != nil {
			realm = form.NetBIOS(domain)
		}
		if realm == "" {
			realm = strings.ToUpper(domain)
		}
	} else {
		name = user
	}
	if name == "" || realm == "" || strings.Contains(name, `\`) {
		return messages.Principal{}, fmt.Errorf("%w: %.64q has no name or no realm", ErrEndUser, user)
	}
	return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, name), Realm: realm}, nil
}
