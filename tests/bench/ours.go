package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// ourClient is a client for one KDC.
func ourClient(addr string, tcp bool, etypes ...enctype.ID) (*krb5core.Client, error) {
	server, err := kdc.ParseServer(addr)
	if err != nil {
		return nil, err
	}
	sender, err := kdc.NewSender(kdc.Config{Finder: kdc.Static{realmName: {server}}})
	if err != nil {
		return nil, err
	}
	return krb5core.NewClient(krb5core.Config{Sender: sender, TCPOnly: tcp, ETypes: etypes})
}

// ourAccount is the proxy's account, of which nothing is known yet.
func ourAccount(s *site) (*krb5core.Account, error) {
	principal, err := messages.ParsePrincipal(proxyName, realmName)
	if err != nil {
		return nil, err
	}
	file, err := negotiate.ReadKeytab(s.keytab)
	if err != nil {
		return nil, err
	}
	keys, err := krb5core.KeytabKeys(file, principal)
	if err != nil {
		return nil, err
	}
	return krb5core.NewAccount(principal, keys, nil), nil
}

// coldStart logs in and gets a ticket for the service.
func coldStart(ctx context.Context, client *krb5core.Client, account *krb5core.Account) (*messages.Credential, error) {
	tgt, err := client.Login(ctx, account)
	if err != nil {
		return nil, err
	}
	spn, err := messages.ParsePrincipal(webName, "")
	if err != nil {
		return nil, err
	}
	return client.ServiceTicket(ctx, account, tgt, spn)
}

// ourIdentity is the proxy's identity as a running thing, with its settings.
func ourIdentity(s *site, addr string, tickets *negotiate.Tickets) (*negotiate.Identity, *negotiate.Settings, error) {
	principal, err := messages.ParsePrincipal(proxyName, realmName)
	if err != nil {
		return nil, nil, err
	}
	client, err := ourClient(addr, false)
	if err != nil {
		return nil, nil, err
	}
	identity, err := negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: principal.String(), Principal: principal, Tickets: tickets,
		Secret: negotiate.KeytabSecret(s.keytab, principal),
	})
	return identity, negotiate.NewSettings(principal.String(), client), err
}

// target is what a request for a service is to be authenticated to.
func target(spn string) (*negotiate.Target, error) {
	parsed, err := negotiate.ParseSPN(spn)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", spn, err)
	}
	return &negotiate.Target{SPN: parsed}, nil
}

// errNoToken is for a side that gave no header.
var errNoToken = errors.New("no token was made")
