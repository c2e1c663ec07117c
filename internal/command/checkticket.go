package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// serviceOf returns the service principal of a use.
func (c *check) serviceOf(u *use) (negotiate.SPN, bool) {
	if c.spn != "" {
		spn, err := negotiate.ParseSPN(c.spn)
		if err != nil {
			c.fail(stepTicket, "--spn: "+err.Error(), "write HTTP/host.corp.example", diagnosis.CauseUnknownSPN)
		}
		return spn, err == nil
	}
	if known := u.service.SPN.Known; !known.IsZero() {
		return known, true
	}
	if host, named := config.UpstreamHost(u.dial); named && u.dial != "" && !u.service.SPN.FromRequest {
		if spn, err := u.service.SPN.Eval(upstreamReplacer(host), host); err == nil {
			return spn, true
		}
	}
	if u.asTransport && u.Service.SPN == "" && u.dial != "" {
		return negotiate.SPN{}, false // the step of the configuration reports it
	}
	c.warn(stepTicket, u.where+": the service principal depends on requests or on dynamic upstreams, and is not checked", "give --spn HTTP/host.corp.example")
	return negotiate.SPN{}, false
}

// upstreamReplacer has the placeholders of an upstream's host.
func upstreamReplacer(host string) *caddy.Replacer {
	repl := caddy.NewReplacer()
	repl.Set("http.reverse_proxy.upstream.host", host)
	repl.Set("http.reverse_proxy.upstream.hostport", host)
	return repl
}

// checkTicket gets a ticket for the service.
func (c *check) checkTicket(ctx context.Context, a *checkedAccount, u *use, spn negotiate.SPN) (negotiate.Grant, bool) {
	c.waiting("asking for a ticket for %s", spn)
	grant, err := a.initiator.Grant(ctx, &negotiate.Target{SPN: spn}, negotiate.DelegateNever)
	if err != nil {
		text, d := err.Error(), diagnosis.Of(err)
		if slices.Contains(d.Causes, diagnosis.CauseUnknownSPN) {
			text, d = c.unknownService(ctx, a, u, spn, text, d)
		}
		c.failAs(stepTicket, text, d)
		return grant, false
	}
	text := ticketText(grant.Ticket)
	if etype, _ := grant.Ticket.ServiceKey(); etype.Weak() {
		c.warn(stepTicket, text+"; the ticket itself is encrypted with a weak key of the service",
			"domain controllers no longer issue these (KB5073381): let the service's account have AES keys (AD: Set-ADUser ACCOUNT -KerberosEncryptionType AES128,AES256, then set its password again)",
			diagnosis.CauseWeakKeys)
	} else {
		c.ok(stepTicket, "%s", text)
	}
	return c.checkForwarding(ctx, a, u, grant, spn), true
}

// unknownService looks the host's name up before it advises to register a service for it: the name
// may be misspelt, or an alias of a host that has the service.
func (c *check) unknownService(ctx context.Context, a *checkedAccount, u *use, spn negotiate.SPN, text string, d diagnosis.Diagnosis) (string, diagnosis.Diagnosis) {
	class, host, _ := strings.Cut(spn.String(), "/")
	host, _, _ = strings.Cut(host, "@")
	ctx, cancel := context.WithTimeout(ctx, 2*c.patience)
	defer cancel()
	canonical, err := u.resolver().LookupCNAME(ctx, host)
	canonical = strings.TrimSuffix(canonical, ".")
	if notFound(err) { // Windows asks the DNS only here: the host may be in the hosts file, or known by its short name
		_, err = u.resolver().LookupHost(ctx, host)
	}
	switch {
	case notFound(err):
		d.Remedy = host + " is not in the DNS: a typo? Correct the name of the upstream, or spn"
		return host + " is not in the DNS, and the KDC knows no service of it: " + text, d
	case err != nil || canonical == "" || strings.EqualFold(canonical, host):
		return text, d
	}
	text = fmt.Sprintf("%s is an alias (CNAME) of %s: %s", host, canonical, text)
	own, err := negotiate.ParseSPN(class + "/" + canonical)
	if err != nil {
		return text, d
	}
	if _, err = a.initiator.Grant(ctx, &negotiate.Target{SPN: own}, negotiate.DelegateNever); err == nil {
		d.Remedy = fmt.Sprintf("the KDC has a service of that host: set spn %s, or name the upstream %s", own, canonical)
	}
	return text, d
}

// notFound reports whether a lookup has shown that there is no such host.
func notFound(err error) bool {
	lookup, failed := errors.AsType[*net.DNSError](err)
	return failed && lookup.IsNotFound
}

// resolver looks names up as the transport does.
func (u *use) resolver() *net.Resolver {
	raw := u.raw
	if !u.asTransport && len(u.proxies) > 0 {
		raw = u.proxies[0].TransportRaw
	}
	var transport struct {
		Resolver struct{ Addresses []string }
	}
	_ = json.Unmarshal(raw, &transport) // loading the module reports the error
	if len(transport.Resolver.Addresses) == 0 {
		return net.DefaultResolver
	}
	address, err := caddy.ParseNetworkAddressWithDefaults(transport.Resolver.Addresses[0], "udp", 53)
	if err != nil {
		return net.DefaultResolver
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address.JoinHostPort(0))
	}}
}

// ticketText describes a ticket.
func ticketText(t *negotiate.Ticket) string {
	cred := t.Credential()
	text := fmt.Sprintf("%s as %s", cred.Service, cred.Client)
	if etype := t.EType(); etype != 0 { // Windows may not tell
		text += fmt.Sprintf(", session key %s", etype)
	}
	if etype, _ := t.ServiceKey(); etype != 0 {
		text += fmt.Sprintf(", encrypted for the service with %s", keyText(t))
	}
	return text + ", until " + cred.EndTime.Local().Format(time.DateTime)
}

// keyText names the service's key that a ticket is encrypted with.
func keyText(t *negotiate.Ticket) string {
	etype, kvno := t.ServiceKey()
	if etype == 0 {
		return "a key"
	}
	text := etype.String()
	if kvno != 0 {
		text += fmt.Sprintf(" of version %d", kvno)
	}
	return text
}

// checkForwarding tests `delegate`, and returns the grant for the use's tokens.
func (c *check) checkForwarding(ctx context.Context, a *checkedAccount, u *use, grant negotiate.Grant, spn negotiate.SPN) negotiate.Grant {
	mode := u.service.Delegation
	if mode == negotiate.DelegateNever {
		return grant
	}
	marked := grant.Ticket.Credential().Flags&messages.TKT_FLG_OK_AS_DELEGATE != 0
	if mode == negotiate.DelegateMarked && !marked {
		c.warn(stepDelegation, fmt.Sprintf("the KDC does not mark %s as trusted for delegation: our ticket is not forwarded", spn),
			"trust the service's account for delegation (AD: Set-ADAccountControl ACCOUNT -TrustedForDelegation $true; MIT: kadmin modprinc +ok_as_delegate SPN), or set delegate always")
		return grant
	}
	forwarding, err := a.initiator.Grant(ctx, &negotiate.Target{SPN: spn}, mode)
	if err != nil {
		c.fail(stepDelegation, err.Error(), "our account must not be marked sensitive, nor be in Protected Users", diagnosis.CauseUserNotDelegable)
		return grant
	}
	c.ok(stepDelegation, "our own ticket can be forwarded to %s", spn)
	return forwarding
}

// checkImpersonation gets a ticket on behalf of the user of --user.
func (c *check) checkImpersonation(ctx context.Context, a *checkedAccount, u *use, spn negotiate.SPN) (grant negotiate.Grant, ok bool) {
	user, rules, err := c.endUser(a, u)
	if err != nil {
		c.failAs(stepDelegation, err.Error(), diagnosis.Of(err))
		return grant, false
	}
	if u.impersonates() && u.Impersonation.ByTicket() {
		return c.checkEvidence(ctx, a, rules, spn)
	}
	c.waiting("impersonating %s", user.Principal())
	admit := admitAll
	if rules != nil {
		admit, err = rules.AdmitTicket, rules.Admit(user.Principal())
	}
	if err == nil {
		_, err = a.initiator.Resolve(ctx, user, admit)
	}
	if err != nil {
		c.failAs(stepDelegation, err.Error(), diagnosis.Of(err))
		return grant, false
	}
	grant, err = a.initiator.Grant(ctx, &negotiate.Target{SPN: spn, User: user}, negotiate.DelegateNever)
	if err != nil {
		c.reportProxyError(ctx, a, user, spn, err)
		return grant, false
	}
	c.ok(stepDelegation, "%s", ticketText(grant.Ticket))
	return grant, true
}

// checkEvidence gets a ticket with the one that the user of --user has signed in with.
func (c *check) checkEvidence(ctx context.Context, a *checkedAccount, rules *config.Impersonator, spn negotiate.SPN) (grant negotiate.Grant, ok bool) {
	if a.evidence == nil {
		c.warn(stepDelegation, "impersonate client_ticket was not checked: no user has signed in to the account", "add --user NAME --password-file FILE")
		return grant, false
	}
	err := rules.Admit(a.evidence.Client)
	if err == nil {
		target := &negotiate.Target{SPN: spn, User: negotiate.SignedIn(a.evidence, "")}
		grant, err = a.initiator.GrantUser(ctx, target, rules.AdmitTicket)
	}
	if err != nil {
		c.failAs(stepDelegation, err.Error(), diagnosis.Of(err))
		return grant, false
	}
	c.ok(stepDelegation, "%s, with the user's own ticket", ticketText(grant.Ticket))
	return grant, true
}

// admitAll is for uses without rules.
func admitAll(*messages.Credential) error { return nil }

// endUser parses --user as the use would; the rules are nil if the use does not impersonate.
func (c *check) endUser(a *checkedAccount, u *use) (user negotiate.User, rules *config.Impersonator, err error) {
	realm := a.resolved.Principal.Realm
	if !u.impersonates() {
		user, err = negotiate.ParseUser(c.user, a.resolved.Realms.UserForm("", realm))
		return user, nil, err
	}
	if rules, err = u.Impersonation.Compile(a.resolved.Realms, realm, a.resolved.Secret.Kind); err != nil {
		return user, nil, err
	}
	user, err = rules.Parse(c.user)
	return user, rules, err
}

// reportProxyError reports why the user's ticket to our own account does not lead to the service.
func (c *check) reportProxyError(ctx context.Context, a *checkedAccount, user negotiate.User, spn negotiate.SPN, err error) {
	d := diagnosis.Of(err)
	if code, refused := krb5core.Code(err); !refused || code != messages.KDC_ERR_BADOPTION {
		c.failAs(stepDelegation, err.Error(), d)
		return
	}
	e := diagnosis.DelegationEvidence{
		Account: a.resolved.Principal.Name.String(), User: user.Principal().Name.String(), SPN: spn.String(),
		UserForwardable: a.forwardable(user),
	}
	if !e.UserForwardable {
		// The flag that forbids it is the user's or our account's. Ours shows in a ticket to our
		// account in its own name.
		own, ownErr := negotiate.ParseUser(e.Account, krb5core.UserForm{Default: a.resolved.Principal.Realm})
		if ownErr == nil {
			_, ownErr = a.initiator.Resolve(ctx, own, admitAll)
		}
		if e.OwnKnown = ownErr == nil; e.OwnKnown {
			e.OwnForwardable = a.forwardable(own)
		}
	}
	c.failAs(stepDelegation, delegationText(e, user)+err.Error(), e.Narrow(d))
}

// delegationText says what the evidence shows.
func delegationText(e diagnosis.DelegationEvidence, user negotiate.User) string {
	switch {
	case e.UserForwardable:
		return fmt.Sprintf("the user can be impersonated, but not to %s: ", e.SPN)
	case e.OwnForwardable:
		return fmt.Sprintf("the user %s cannot be impersonated: sensitive and cannot be delegated, or in Protected Users. "+
			"(Our account is trusted to authenticate for delegation: it gets a forwardable ticket in its own name.) ", user.Principal())
	case e.OwnKnown:
		return "our account is not trusted to authenticate for delegation: not even a ticket in its own name can be forwarded. "
	default:
		return ""
	}
}

// forwardable reports whether the user's ticket to our account is forwardable.
func (a *checkedAccount) forwardable(user negotiate.User) bool {
	for _, item := range a.tickets.Snapshot(nil) {
		if negotiate.IsEvidence(item.Key, user) {
			return item.Value.Credential().Flags&messages.TKT_FLG_FORWARDABLE != 0
		}
	}
	return false
}
