package caddynegotiate

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
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

	// Who may be impersonated: names, `*` stands for any characters, case does not
	// matter. Tried on the name asked for and on the one that the KDC returns.
	// Default: everybody that the KDC allows.
	AllowUsers []string `json:"allow_users,omitempty"`

	// Who may not be impersonated, in the same form; wins over `allow_users`.
	// Default: nobody.
	DenyUsers []string `json:"deny_users,omitempty"`

	form        krb5core.UserForm
	allow, deny *regexp.Regexp
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
	i.deny = globs(i.DenyUsers)
	if len(i.AllowUsers) > 0 {
		i.allow = globs(i.AllowUsers)
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
		case strings.HasPrefix(name, "http.auth."), strings.HasPrefix(name, "http.request.tls.client."), strings.HasPrefix(name, "env."):
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
	missing := false
	name, err := repl.ReplaceFunc(i.Impersonate, func(_ string, value any) (any, error) {
		missing = missing || caddy.ToString(value) == ""
		return value, nil
	})
	if err != nil {
		return negotiate.User{}, err
	}
	if missing || strings.TrimSpace(name) == "" {
		return negotiate.User{}, errUserMissing
	}
	user, err := negotiate.ParseUser(name, i.form)
	if err != nil {
		return negotiate.User{}, err
	}
	return user, i.admit(user.Principal(), name)
}

// admit applies allow_users and deny_users to a user: to the one asked for, with
// the name as it was written, and to the one that the KDC made of it.
func (i *Impersonation) admit(user messages.Principal, written ...string) error {
	bare := user.Name.String()
	forms := append(written, bare, user.String())
	if user.Name.NameType == messages.KRB_NT_ENTERPRISE {
		bare, _, _ = strings.Cut(user.Name.NameString[0], "@")
	}
	if slices.ContainsFunc(append(forms, bare), i.deny.MatchString) {
		return errUserDenied
	}
	if i.allow == nil {
		return nil
	}
	// A bare name stands for a user of the default realm only: alice is allowed,
	// alice of some other realm that trusts us not necessarily.
	if user.Name.NameType == messages.KRB_NT_ENTERPRISE {
		if _, suffix, _ := strings.Cut(user.Name.NameString[0], "@"); strings.EqualFold(suffix, i.form.Default) {
			forms = append(forms, bare)
		}
	} else if user.Realm != i.form.Default {
		forms = append(slices.Clone(written), user.String())
	}
	if !slices.ContainsFunc(forms, i.allow.MatchString) {
		return errUserDenied
	}
	return nil
}

// grant gives what tokens in the user's name are made of, once it is certain who
// he is to the KDC and that he may be acted for.
func (i *Impersonation) grant(ctx context.Context, acct *account, t *negotiate.Target) (negotiate.Grant, error) {
	if g, ok := acct.identity.Held(acct.settings, t); ok {
		return g, i.admit(g.Ticket.Credential().Client)
	}
	client, err := acct.identity.Resolve(ctx, acct.settings, t.User)
	if err != nil {
		return negotiate.Grant{}, err
	}
	if err := i.admit(client); err != nil {
		return negotiate.Grant{}, err
	}
	g, err := acct.identity.Grant(ctx, acct.settings, t, negotiate.DelegateNever)
	if err != nil {
		return negotiate.Grant{}, err
	}
	return g, i.admit(g.Ticket.Credential().Client)
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
