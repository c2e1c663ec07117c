package caddynegotiate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// checkSite checks what one place in the configuration asks for: the ticket, then
// the request.
func (c *check) checkSite(ctx context.Context, w *who, s *site) {
	spn, ok := c.service(s)
	if !ok {
		return
	}
	target := negotiate.Target{SPN: spn}
	grant, ok := c.checkTicket(ctx, w, s, &target)
	if !ok {
		return
	}
	if c.flags.user != "" {
		if grant, ok = c.checkDelegation(ctx, w, s, target); !ok {
			return
		}
	}
	c.checkUpstream(ctx, w, s, grant)
}

// service names the service principal.
func (c *check) service(s *site) (negotiate.SPN, bool) {
	if c.flags.spn != "" {
		spn, err := negotiate.ParseSPN(c.flags.spn)
		if err != nil {
			c.fail(stepTicket, "--spn: "+err.Error(), "write HTTP/host.corp.example", causeUnknownSPN)
		}
		return spn, err == nil
	}
	r := s.request()
	template, err := compileSPN(r.SPN, r.AllowSPNs, s.transport != nil)
	if err != nil {
		return negotiate.SPN{}, false // the configuration's own step says it
	}
	if !template.known.IsZero() {
		return template.known, true
	}
	if !template.fromRequest {
		if host, named := upstreamHost(s.dial); named && s.dial != "" {
			if spn, err := negotiate.HostSPN(host); err == nil {
				return spn, true
			}
		}
	}
	if s.transport != nil && r.SPN == "" && s.dial != "" {
		return negotiate.SPN{}, false // so does it here
	}
	c.warn(stepTicket, s.where+": the service principal is made of requests or of upstreams that nobody knows beforehand, and is not checked", "give --spn HTTP/host.corp.example")
	return negotiate.SPN{}, false
}

// checkTicket wins a ticket for the service.
func (c *check) checkTicket(ctx context.Context, w *who, s *site, target *negotiate.Target) (negotiate.Grant, bool) {
	c.progress("asking for a ticket for %s", target.SPN)
	grant, err := w.identity.Grant(ctx, w.settings, target, negotiate.DelegateNever)
	if err != nil {
		c.tellTicketFailed(target.SPN, err)
		return grant, false
	}
	cred := grant.Ticket.Credential()
	text, etype := ticketText(cred)
	switch {
	case etype != nil && etype.EncPart.EType.Weak():
		c.warn(stepTicket, text+"; the ticket itself is encrypted with a weak key of the service's",
			"domain controllers cease to issue these (KB5073381): let the service's account have AES keys (AD: Set-ADUser ACCOUNT -KerberosEncryptionType AES128,AES256, then set its password once more)", causeWeakKeys)
	default:
		c.ok(stepTicket, "%s", text)
	}
	return c.checkForwarding(ctx, w, s, target, grant), true
}

// ticketText describes a ticket.
func ticketText(cred *messages.Credential) (string, *messages.Ticket) {
	text := fmt.Sprintf("%s as %s, session key %s", cred.Service, cred.Client, cred.Key.EType())
	ticket, err := messages.ParseTicket(cred.Ticket)
	if err == nil {
		text += fmt.Sprintf(", encrypted for the service with %s", keyText(ticket))
	}
	return text + ", until " + cred.EndTime.Local().Format(time.DateTime), ticket
}

// keyText names the service's key that a ticket is encrypted with.
func keyText(ticket *messages.Ticket) string {
	text := ticket.EncPart.EType.String()
	if ticket.EncPart.HasKVNO {
		text += fmt.Sprintf(" of version %d", ticket.EncPart.KVNO)
	}
	return text
}

func (c *check) tellTicketFailed(spn negotiate.SPN, err error) {
	code, refused := krb5core.Code(err)
	var (
		etypes *exchange.ETypeError
		wrong  *exchange.ReferralError
	)
	switch {
	case refused && code == messages.KDC_ERR_PRINCIPAL_NOT_UNIQUE:
		c.fail(stepTicket, err.Error(), fmt.Sprintf("%s stands on several accounts (AD: setspn -Q %s, setspn -X): take it off all but the one that the service runs as (setspn -D)", spn, spn), causeOtherAccount)
	case refused && (code == messages.KDC_ERR_S_PRINCIPAL_UNKNOWN || code == messages.KDC_ERR_MUST_USE_USER2USER), errors.As(err, &wrong):
		c.fail(stepTicket, err.Error(), diagnose(err).Remedy+
			" If the name is an alias (CNAME) of the host, state the host's own in spn", causeUnknownSPN)
	case refused && code == messages.KDC_ERR_ETYPE_NOSUPP, errors.As(err, &etypes):
		c.fail(stepTicket, err.Error(), diagnose(err).Remedy, causeEType)
	case refused && code == messages.KRB_AP_ERR_SKEW:
		c.fail(stepTicket, err.Error(), remedyClock, causeClock)
	default:
		c.fail(stepTicket, err.Error(), diagnose(err).Remedy)
	}
}

// checkForwarding tries what `delegate` asks for.
func (c *check) checkForwarding(ctx context.Context, w *who, s *site, target *negotiate.Target, grant negotiate.Grant) negotiate.Grant {
	mode := delegationOf(s.request().Delegate)
	if mode == negotiate.DelegateNever {
		return grant
	}
	marked := grant.Ticket.Credential().Flags&messages.TKT_FLG_OK_AS_DELEGATE != 0
	if mode == negotiate.DelegateMarked && !marked {
		c.warn(stepDelegation, fmt.Sprintf("the KDC does not mark %s as fit for delegation: our ticket is not handed over", target.SPN),
			"trust the service's account for delegation (AD: Set-ADAccountControl ACCOUNT -TrustedForDelegation $true; MIT: kadmin modprinc +ok_as_delegate SPN), or state delegate always")
		return grant
	}
	forwarding, err := w.identity.Grant(ctx, w.settings, target, mode)
	if err != nil {
		c.fail(stepDelegation, err.Error(), "our account may not be marked sensitive, nor be in Protected Users", causeUserFlag)
		return grant
	}
	c.ok(stepDelegation, "our own ticket can be handed to %s", target.SPN)
	return forwarding
}

// checkDelegation acts for the user of --user.
func (c *check) checkDelegation(ctx context.Context, w *who, s *site, target negotiate.Target) (negotiate.Grant, bool) {
	form := krb5core.UserForm{Default: w.identity.Principal().Realm, NetBIOS: w.known.netbios}
	if s.transport != nil && s.transport.UserRealm != "" {
		form.Default = s.transport.UserRealm
	}
	user, err := negotiate.ParseUser(c.flags.user, form)
	if err != nil {
		c.fail(stepDelegation, err.Error(), diagnose(err).Remedy, causeUserUnknown)
		return negotiate.Grant{}, false
	}
	c.progress("acting for %s", user.Principal())
	client, err := w.identity.Resolve(ctx, w.settings, user)
	if err != nil {
		c.tellSelfFailed(err)
		return negotiate.Grant{}, false
	}
	if s.transport != nil && s.transport.Impersonation.enabled() {
		rules := &s.transport.Impersonation
		if err := cmp.Or(rules.admit(user.Principal()), rules.admitClient(client)); err != nil {
			c.fail(stepDelegation, fmt.Sprintf("%s: %v", client, err), diagnose(err).Remedy, causeConfiguration)
			return negotiate.Grant{}, false
		}
	}
	target.User = user
	grant, err := w.identity.Grant(ctx, w.settings, &target, negotiate.DelegateNever)
	if err != nil {
		c.tellProxyFailed(ctx, w, user, target, err)
		return grant, false
	}
	text, _ := ticketText(grant.Ticket.Credential())
	c.ok(stepDelegation, "%s", text)
	return grant, true
}

// tellSelfFailed says why there is no ticket to ourselves in the user's name.
func (c *check) tellSelfFailed(err error) {
	code, _ := krb5core.Code(err)
	switch code {
	case messages.KDC_ERR_C_PRINCIPAL_UNKNOWN:
		c.fail(stepDelegation, err.Error(), diagnose(err).Remedy, causeUserUnknown)
	case messages.KDC_ERR_S_PRINCIPAL_UNKNOWN:
		c.fail(stepDelegation, err.Error(), diagnose(err).Remedy, causeOurFlag)
	default:
		c.fail(stepDelegation, err.Error(), diagnose(err).Remedy, causeAccount)
	}
}

// tellProxyFailed says why the user's ticket to ourselves does not lead to the service.
func (c *check) tellProxyFailed(ctx context.Context, w *who, user negotiate.User, target negotiate.Target, err error) {
	code, refused := krb5core.Code(err)
	if !refused || code != messages.KDC_ERR_BADOPTION {
		c.fail(stepDelegation, err.Error(), diagnose(err).Remedy)
		return
	}
	account := w.identity.Principal().Name.String()
	list := fmt.Sprintf("Set-ADUser %s -Add @{'msDS-AllowedToDelegateTo'='%s'}", account, target.SPN)
	sensitive := fmt.Sprintf("Get-ADUser %s -Properties AccountNotDelegated,MemberOf shows it: take the mark off, or the user out of Protected Users", user.Principal().Name)
	trust := fmt.Sprintf("Set-ADAccountControl %s -TrustedToAuthForDelegation $true", account)
	if w.forwardable(user) {
		c.fail(stepDelegation, fmt.Sprintf("the user may be acted for, but not towards %s: %v", target.SPN, err),
			fmt.Sprintf("put the service on our account's list (AD: %s), or our account on the service's (AD: Set-ADUser SERVICE-ACCOUNT -PrincipalsAllowedToDelegateToAccount %s)", list, account), causeTarget)
		return
	}
	// The user's ticket to ourselves cannot be forwarded: it is the user's flag or
	// ours. Ours shows in a ticket in our own name.
	ourselves, nameErr := negotiate.ParseUser(account, krb5core.UserForm{Default: w.identity.Principal().Realm})
	if nameErr == nil {
		_, nameErr = w.identity.Resolve(ctx, w.settings, ourselves)
	}
	switch {
	case nameErr == nil && w.forwardable(ourselves):
		c.fail(stepDelegation, fmt.Sprintf("the user %s may not be acted for: sensitive and cannot be delegated, or in Protected Users. (Our account is trusted to authenticate for delegation: it gets a forwardable ticket in its own name.) %v", user.Principal(), err),
			"AD: "+sensitive, causeUserFlag)
	case nameErr == nil:
		c.fail(stepDelegation, fmt.Sprintf("our account is not trusted to authenticate for delegation: not even a ticket in our own name can be forwarded. %v", err),
			fmt.Sprintf("AD: %s, and %s. If that is in place: %s", trust, list, sensitive), causeOurFlag, causeUserFlag)
	default:
		c.fail(stepDelegation, err.Error(), fmt.Sprintf("one of two:\n1. our account is not trusted to authenticate for delegation (AD: %s)\n2. the user may not be delegated: %s", trust, sensitive), causeOurFlag, causeUserFlag)
	}
}

// forwardable tells whether the user's ticket to ourselves is.
func (w *who) forwardable(user negotiate.User) bool {
	for _, item := range w.tickets.Snapshot(nil) {
		if negotiate.IsEvidence(item.Key, user) {
			return item.Value.Credential().Flags&messages.TKT_FLG_FORWARDABLE != 0
		}
	}
	return false
}
