package caddynegotiate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// Impersonation says on whose behalf requests are made, where it is not our own:
// constrained delegation ([MS-SFU], S4U2Self and S4U2Proxy). The KDC has to allow
// it; docs/delegation.md tells how.
type Impersonation struct {
	// The end user's name, as a placeholder, e.g. `{http.auth.user.id}`: `alice`,
	// `CORP\alice` or a UPN. `{http.auth.*}` and `{http.request.tls.client.*}` are
	// taken as they are; `{http.request.header.X}` needs `trust_header`. An empty
	// name is answered with 403. Default: requests are made as ourselves.
	Impersonate string `json:"impersonate,omitempty"`

	// The header that `impersonate` takes the user from. Stating it says that a
	// gateway in front sets or removes it on every request, so that no client can.
	TrustHeader string `json:"trust_header,omitempty"`

	// Realm of users given by a bare name. Default: our own.
	UserRealm string `json:"user_realm,omitempty"`

	// Who may be impersonated: `alice`, `alice@REALM`, `CORP\alice` or a UPN; `*` stands
	// for any characters, case does not matter. A bare name is a user of `user_realm`. The
	// name asked for and the one that the KDC returns have to match, each one of them.
	// Default: everybody that the KDC allows.
	AllowUsers []string `json:"allow_users,omitempty"`

	// Who may not be impersonated, in the same form; wins over `allow_users`. A bare
	// name is that user in whatever realm, and as the first part of whatever UPN.
	// Default: nobody.
	DenyUsers []string `json:"deny_users,omitempty"`

	form        krb5core.UserForm
	allow, deny userRules
}

// Why a user is not acted for.
var (
	errUserMissing = errors.New("impersonate yields no user: who is signed in?")
	errUserDenied  = errors.New("the user may not be impersonated by allow_users and deny_users")
)

func (i *Impersonation) enabled() bool { return i.Impersonate != "" }

// provision checks where the name comes from.
func (i *Impersonation) provision(origin Origin, known atlas, own string) error {
	if !i.enabled() {
		for name, given := range map[string]bool{
			"trust_header": i.TrustHeader != "", "user_realm": i.UserRealm != "",
			"allow_users": len(i.AllowUsers) > 0, "deny_users": len(i.DenyUsers) > 0,
		} {
			if given {
				return origin.wrap(name, errors.New("needs impersonate beside it"))
			}
		}
		return nil
	}
	if err := refuseUnapproved("PA-FOR-USER (HMAC-MD5, [MS-SFU] 2.2.1)", "leave impersonate out"); err != nil {
		return origin.wrap("impersonate", err)
	}
	if err := i.checkSource(); err != nil {
		return origin.wrap("impersonate", err)
	}
	i.form = krb5core.UserForm{Default: i.UserRealm, NetBIOS: known.netbios}
	if i.form.Default == "" {
		i.form.Default = own
	}
	var err error
	if i.allow, err = compileUserRules(i.AllowUsers, i.form, false); err != nil {
		return origin.wrap("allow_users", err)
	}
	if i.deny, err = compileUserRules(i.DenyUsers, i.form, true); err != nil {
		return origin.wrap("deny_users", err)
	}
	return nil
}

// checkSource refuses names that a client could choose.
func (i *Impersonation) checkSource() error {
	names, err := placeholders(i.Impersonate)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("%q is no placeholder; write e.g. {http.auth.user.id}", i.Impersonate)
	}
	trusted := false
	for _, name := range names {
		header, isHeader := strings.CutPrefix(name, "http.request.header.")
		switch {
		case strings.HasPrefix(name, "http.auth."), strings.HasPrefix(name, "http.request.tls.client."), fixed(name):
		case isHeader && strings.EqualFold(header, i.TrustHeader):
			trusted = true
		case isHeader:
			return fmt.Errorf("any client can send the header %s: if a gateway in front sets or removes it on every request, say so with trust_header %s", header, header)
		default:
			return fmt.Errorf("{%s} can be chosen by clients, or by what they send; take {http.auth.*}, {http.request.tls.client.*} or a trusted header", name)
		}
	}
	if i.TrustHeader != "" && !trusted {
		return fmt.Errorf("trust_header %s is stated, but impersonate does not use it", i.TrustHeader)
	}
	return nil
}

// user finds out whom a request is to be made for.
func (i *Impersonation) user(repl *caddy.Replacer) (negotiate.User, error) {
	name, err := i.name(repl)
	if err != nil {
		return negotiate.User{}, err
	}
	user, err := negotiate.ParseUser(name, i.form)
	if err == nil {
		err = i.admit(user.Principal())
	}
	if err != nil {
		err = &userError{name, err}
	}
	return user, err
}

// name is the user's as he signed in.
func (i *Impersonation) name(repl *caddy.Replacer) (string, error) {
	missing := false
	name, err := repl.ReplaceFunc(i.Impersonate, func(_ string, value any) (any, error) {
		missing = missing || caddy.ToString(value) == ""
		return value, nil
	})
	if err == nil && (missing || strings.TrimSpace(name) == "") {
		err = errUserMissing
	}
	return name, err
}

// userError says for the log who was not acted for, by the name that he signed in with.
type userError struct {
	name string
	err  error
}

// Error is the cause's.
func (e *userError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *userError) Unwrap() error { return e.err }

// admit applies allow_users and deny_users to a user: to the one asked for, and to
// the one that the KDC made of it.
func (i *Impersonation) admit(user messages.Principal) error {
	if i.allow == nil && i.deny == nil {
		return nil
	}
	names := namesOf(user, i.form.Default)
	if i.deny.matchAny(append(names.sure, names.maybe...)) || i.allow != nil && !i.allow.matchAny(names.sure) {
		return fmt.Errorf("%w: %s", errUserDenied, user)
	}
	return nil
}

// admitClient is admit for the one whom the KDC has made of a name. Some KDCs (Samba
// 4.17) repeat a UPN, and do not say whose it is: then nobody can tell that it is not
// that of somebody who is denied.
func (i *Impersonation) admitClient(client messages.Principal) error {
	if i.deny != nil && isUPN(client) {
		return fmt.Errorf("%w: the KDC does not tell whose user principal name %s is, so deny_users cannot be held against it", errUserDenied, client)
	}
	return i.admit(client)
}

// grant gives what tokens in the user's name are made of, once it is certain who
// he is to the KDC and that he may be acted for.
func (i *Impersonation) grant(ctx context.Context, acct *account, t *negotiate.Target) (negotiate.Grant, error) {
	g, err := i.acquire(ctx, acct, t)
	if err == nil {
		return g, nil
	}
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		if name, failed := i.name(repl); failed == nil {
			err = &userError{name, err}
		}
	}
	return g, err
}

// acquire is grant, with errors that do not say who.
func (i *Impersonation) acquire(ctx context.Context, acct *account, t *negotiate.Target) (negotiate.Grant, error) {
	g, held := acct.identity.Held(acct.settings, t)
	if !held {
		client, err := acct.identity.Resolve(ctx, acct.settings, t.User)
		if err == nil {
			err = i.admitClient(client)
		}
		if errors.Is(err, errUserDenied) {
			return negotiate.Grant{}, err
		}
		// A ticket that is held serves on, though nobody can tell now who the user is.
		if g, err = acct.identity.Grant(ctx, acct.settings, t, negotiate.DelegateNever); err != nil {
			return negotiate.Grant{}, err
		}
	}
	return g, i.admitGrant(g)
}

// admitGrant is admitClient for whom a ticket names.
func (i *Impersonation) admitGrant(g negotiate.Grant) error {
	return i.admitClient(g.Ticket.Credential().Client)
}

// block gives the readers of the subdirectives that say on whose behalf.
func (i *Impersonation) block() block {
	return block{
		"impersonate":  readString(&i.Impersonate),
		"trust_header": readString(&i.TrustHeader),
		"user_realm":   readString(&i.UserRealm),
		"allow_users":  readList(&i.AllowUsers, false),
		"deny_users":   readList(&i.DenyUsers, false),
	}
}
