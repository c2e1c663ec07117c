package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// ourClient returns a client for one KDC.
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

// ourAccount returns the proxy's account, without salt and key types.
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
	tgt, err := client.Login(ctx, account, nil)
	if err != nil {
		return nil, err
	}
	spn, err := messages.ParsePrincipal(webName, "")
	if err != nil {
		return nil, err
	}
	return client.ServiceTicket(ctx, account, tgt, spn)
}

// ourInitiator returns the proxy's identity with its settings.
func ourInitiator(s *site, addr string, tickets *negotiate.Tickets) (*negotiate.Initiator, error) {
	principal, err := messages.ParsePrincipal(proxyName, realmName)
	if err != nil {
		return nil, err
	}
	client, err := ourClient(addr, false)
	if err != nil {
		return nil, err
	}
	identity, err := negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: principal.String(), Principal: principal, Tickets: tickets,
		Secret: negotiate.KeytabSecret(s.keytab, principal),
	})
	if err != nil {
		return nil, err
	}
	return identity.Initiator(negotiate.NewSettings(principal.String(), client)), nil
}

// target returns the target for a service principal name.
func target(spn string) (*negotiate.Target, error) {
	parsed, err := negotiate.ParseSPN(spn)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", spn, err)
	}
	return &negotiate.Target{SPN: parsed}, nil
}

// errNoToken is the error of a variant that sends no token.
var errNoToken = errors.New("no token was sent")

// ticket gets a ticket for the service from the KDC.
func (s *site) ticket(ctx context.Context) (*messages.Credential, error) {
	account, err := ourAccount(s)
	if err != nil {
		return nil, err
	}
	client, err := ourClient(s.kdc.Addr(), false)
	if err != nil {
		return nil, err
	}
	return coldStart(ctx, client, account)
}

// templates returns n templates of a ticket, with more flags than those of a warm request, each with its own clock: a clock is
// limited to 934464 timestamps a second.
func templates(cred *messages.Credential, n int, more gss.Flags) ([]*gss.Template, error) {
	made := make([]*gss.Template, n)
	for i := range made {
		clock, err := gss.NewClock(gss.ClockConfig{})
		if err != nil {
			return nil, err
		}
		made[i], err = gss.NewTemplate(cred, gss.TemplateConfig{
			Flags:    gss.GSS_C_REPLAY_FLAG | gss.GSS_C_SEQUENCE_FLAG | gss.GSS_C_INTEG_FLAG | gss.GSS_C_CONF_FLAG | more,
			Bindings: true, Framing: spnego.AppendInitPrefix, Clock: clock,
		})
		if err != nil {
			return nil, err
		}
	}
	return made, nil
}
