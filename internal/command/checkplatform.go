package command

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/internal/sspi"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// checkPlatform shows what Windows says about the account that the command runs as, and tries a
// token at the service. It needs no configuration.
func (f *checkFlags) checkPlatform(ctx context.Context, r *report) error {
	client, err := sspi.Open()
	if errors.Is(err, sspi.ErrUnsupported) {
		return errors.New("--platform is for Windows; elsewhere, check --config with ccache default")
	}
	if err != nil {
		return err
	}
	defer client.Close()
	c := &check{report: r, checkOptions: f.checkOptions}
	if c.checkPackages(client) {
		c.checkWindowsAccount(client)
		c.checkWindowsToken(ctx, client)
	}
	return r.end()
}

// checkPackages lists the security packages. Kerberos must be among them.
func (c *check) checkPackages(client *sspi.Client) bool {
	all, err := client.Packages()
	if err != nil {
		c.failAs(stepPackages, err.Error(), diagnosis.Of(err))
		return false
	}
	var names []string
	found := false
	for _, p := range all {
		names = append(names, fmt.Sprintf("%s (tokens of %d bytes)", p.Name, p.MaxToken))
		found = found || strings.EqualFold(p.Name, "Kerberos")
	}
	text := strings.Join(names, ", ")
	if !found {
		c.fail(stepPackages, text+": Kerberos is not among them", "this Windows has no Kerberos: use a keytab", diagnosis.CauseConfiguration)
		return false
	}
	c.ok(stepPackages, "%s; only Kerberos is used", text)
	return true
}

// checkWindowsAccount shows whose tickets Windows uses, and which it holds.
func (c *check) checkWindowsAccount(client *sspi.Client) {
	switch account, err := client.Account(); {
	case err != nil:
		c.failAs(stepAccount, err.Error(), diagnosis.Of(err))
	case account.Source == "ticket":
		c.ok(stepAccount, "%s@%s, by its tickets", account.Name, account.Realm)
	default:
		c.ok(stepAccount, "%s\\%s; Windows names no Kerberos principal for it yet", account.Realm, account.Name)
	}
	tickets, err := client.Tickets()
	if err != nil {
		c.warn(stepCache, err.Error(), "klist shows the tickets")
		return
	}
	c.ok(stepCache, "%s", english.Plural(len(tickets), "ticket", ""))
	for _, t := range tickets {
		c.ok(stepCache, "%s", windowsTicketText(t))
	}
}

func windowsTicketText(t sspi.Ticket) string {
	text := fmt.Sprintf("%s@%s", t.Server, t.ServerRealm)
	if t.Client != "" {
		text += fmt.Sprintf(" as %s@%s", t.Client, t.ClientRealm)
	}
	if t.SessionEType != 0 {
		text += fmt.Sprintf(", session key %s", enctype.ID(t.SessionEType))
	}
	text += fmt.Sprintf(", ticket %s, flags %s", enctype.ID(t.EType), messages.TicketFlags(t.Flags))
	return text + ", until " + t.End.Local().Format(time.DateTime)
}

// checkWindowsToken gets a ticket for the service of --spn, or of the host of --url, as the running
// Caddy does, and requests the URL with it.
func (c *check) checkWindowsToken(ctx context.Context, client *sspi.Client) {
	spn, err := c.windowsService()
	if err != nil {
		c.fail(stepTicket, err.Error(), "write --spn HTTP/host.corp.example", diagnosis.CauseUnknownSPN)
		return
	}
	if spn.IsZero() {
		c.warn(stepTicket, "no token was tried: no service is named", "add --url https://host.corp.example/ or --spn HTTP/host.corp.example")
		return
	}
	credentials := config.Credentials{Platform: true}
	a := &checkedAccount{name: "platform", credentials: &credentials}
	env, err := config.NewEnv(nil, "", zap.NewNop())
	if err != nil {
		c.fail(stepConfig, err.Error(), "")
		return
	}
	if a.resolve(env); a.err != nil {
		c.fail(stepConfig, a.err.Error(), "")
		return
	}
	u := &use{asTransport: true, where: "--platform", loaded: true}
	u.ChannelBinding, u.service.MutualAuth = config.ChannelBindingAuto, negotiate.MutualAuthOn
	grant, ok := c.checkTicket(ctx, a, u, spn)
	if ok {
		c.ok(stepTicket, "flags %s", grant.Ticket.Credential().Flags)
	}
	if ok && c.target != nil {
		c.checkUpstream(ctx, u, grant)
	}
}

// windowsService is the service of --spn, else that of the host of --url; zero for none.
func (c *check) windowsService() (negotiate.SPN, error) {
	switch {
	case c.spn != "":
		return negotiate.ParseSPN(c.spn)
	case c.target != nil && c.target.Host != "":
		return negotiate.HostSPN(c.target.Hostname())
	default:
		return negotiate.SPN{}, nil
	}
}

// bindingText describes the application data of a channel binding: a prefix, and the hash of the
// upstream's certificate.
func bindingText(data string) string {
	prefix, hash, _ := strings.Cut(data, ":")
	return prefix + ": " + hex.EncodeToString([]byte(hash))
}
