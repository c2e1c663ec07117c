package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
)

// checkSignIn has a client sign in at a negotiate_auth, for each service: the user of --user, else
// the account itself, whose ticket is encrypted with the same key.
func (c *check) checkSignIn(ctx context.Context, a *checkedAccount, u *use) {
	client, err := c.signingIn(a)
	if err != nil {
		c.fail(stepSignIn, err.Error(), "give the user's name with its realm, and a file that holds the password", diagnosis.CauseConfiguration)
		return
	}
	if c.passwordFile == "" {
		c.warn(stepSignIn, u.where+": tried as the account itself, not as a user", "add --user NAME --password-file FILE")
	}
	for _, spn := range u.Admission.Names() {
		c.checkAlias(ctx, spn)
		if c.checkSignInTo(ctx, a, u, client, spn) && ctx.Err() != nil {
			return
		}
	}
}

// signingIn returns who signs in.
func (c *check) signingIn(a *checkedAccount) (*negotiate.Initiator, error) {
	if c.passwordFile == "" {
		return a.initiator, nil
	}
	password, err := secretfile.ReadPassword(c.passwordFile)
	if err != nil {
		return nil, err
	}
	user, err := krb5core.ParseUser(c.user, a.resolved.Realms.UserForm("", a.resolved.Principal.Realm))
	if err != nil {
		return nil, err
	}
	client, err := a.resolved.NewClient(nil, kdc.NewMemory())
	if err != nil {
		return nil, err
	}
	identity, err := negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: "check as user", Principal: user, Secret: negotiate.PasswordSecret(password), Tickets: cache.New[*negotiate.Ticket](cache.Config{}),
	})
	if err != nil {
		return nil, err
	}
	return identity.Initiator(negotiate.NewSettings(user.String(), client)), nil
}

// checkAlias looks for a host that is an alias: a browser may then ask for a ticket for the host
// behind it.
func (c *check) checkAlias(ctx context.Context, spn negotiate.SPN) {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	host := spn.Host()
	name, err := net.DefaultResolver.LookupCNAME(ctx, host)
	if name = strings.TrimSuffix(name, "."); err == nil && name != "" && !strings.EqualFold(name, host) {
		c.warn(stepSignIn, fmt.Sprintf("%s is an alias of %s in the DNS: some clients ask for a ticket for that name", host, name),
			"register HTTP/"+name+" on the account too, and name it in spn")
	}
}

// checkSignInTo makes a token for a service, as a client does, and has the module verify it.
func (c *check) checkSignInTo(ctx context.Context, a *checkedAccount, u *use, client *negotiate.Initiator, spn negotiate.SPN) bool {
	c.waiting("signing in to %s as %s", spn, client.Name())
	grant, err := client.Grant(ctx, &negotiate.Target{SPN: spn}, negotiate.DelegateNever)
	if err != nil {
		c.failAs(stepSignIn, fmt.Sprintf("no ticket for %s: %v", spn, err), diagnosis.Of(err))
		return false
	}
	binding := httpauth.Binding{Hashed: gss.ChannelBindings{1}} // of the connection that there is not
	token, err := grant.Mint(ctx, negotiate.Features{Mutual: true, Bindings: &binding})
	if err != nil {
		c.failAs(stepSignIn, err.Error(), diagnosis.Of(err))
		return false
	}
	result, err := u.SignIn(ctx, accept.Request{Base64: strings.TrimPrefix(token.Header, "Negotiate "), Bindings: func(b gss.ChannelBindings) bool { return b == binding.Hashed }})
	if err != nil {
		d := diagnosis.OfSignIn(err)
		c.fail(stepSignIn, fmt.Sprintf("the KDC encrypts tickets for %s with %s: %v", spn, keyText(grant.Ticket), err), d.Remedy, signInCauses[d.Reason]...)
		return false
	}
	text := fmt.Sprintf("%s signs in to %s; the ticket is encrypted with %s", result.Client, spn, keyText(grant.Ticket))
	if result.Account != nil {
		text += fmt.Sprintf(", and names the SID %s and %d groups", result.Account.SID, len(result.Account.Groups))
	}
	if c.passwordFile != "" {
		a.evidence = result.Evidence
		if err := u.Admission.Admit(result.Client, result.Account); err != nil {
			c.fail(stepSignIn, text+"; but the user may not enter: "+err.Error(), "correct realms, allow_groups or deny_groups, if the user should", diagnosis.CauseUserMayNotEnter)
			return false
		}
	}
	c.ok(stepSignIn, "%s", text)
	return true
}

// signInCauses are the causes of refused tokens, as far as there are words for them.
var signInCauses = map[accept.Reason][]diagnosis.Cause{
	accept.UnknownVersion: {diagnosis.CauseKeytabVersion},
	accept.WrongKey:       {diagnosis.CauseSPNOnOtherAccount, diagnosis.CauseServiceKeyChanged},
	accept.WrongService:   {diagnosis.CauseConfiguration},
	accept.NoKey:          {diagnosis.CauseNoCommonEType},
	accept.WeakEType:      {diagnosis.CauseWeakKeys},
	accept.Skew:           {diagnosis.CauseClock},
	accept.NotYetValid:    {diagnosis.CauseClock},
}

// onlyAccepts reports whether the account opens tickets and, in a running Caddy, does not log in.
func (a *checkedAccount) onlyAccepts() bool {
	for _, u := range a.uses {
		if !u.accepts {
			return false
		}
	}
	return len(a.uses) > 0
}

// namelessForLogin reports whether a login failed because the account's name is none to log in with,
// as a service principal in Active Directory, although its key may open tickets.
func (a *checkedAccount) namelessForLogin(err error) bool {
	e, ok := errors.AsType[*krb5core.Error](err)
	return ok && e.Refused && e.Code == messages.KDC_ERR_C_PRINCIPAL_UNKNOWN && a.onlyAccepts()
}
