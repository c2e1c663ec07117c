package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/internal/signin"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// Impersonation has the user on whose behalf requests are made: constrained
// delegation ([MS-SFU], S4U2Proxy, and S4U2Self for users who have not presented a
// ticket). The KDC has to allow it; see docs/delegation.md.
type Impersonation struct {
	// The end user's name, as a placeholder, e.g. `{http.auth.user.id}`: `alice`,
	// `CORP\alice` or a UPN. `{http.auth.*}` and `{http.request.tls.client.*}` are
	// used as they are; `{http.request.header.X}` needs `trust_header`. An empty
	// name is answered with 403, as is a value with an `@` where the text around the
	// placeholder adds one. Or `client_ticket`: the user who has signed in by
	// `negotiate_auth` to the same account, with the ticket that they signed in with; no
	// one else can be impersonated. Default: requests are made as the account itself.
	Impersonate string `json:"impersonate,omitempty"`

	// The header that `impersonate` takes the user from. Set it only if a gateway
	// in front sets or removes that header on every request, so that no client can.
	TrustHeader string `json:"trust_header,omitempty"`

	// Realm of users whose name has none. Default: the account's own.
	UserRealm string `json:"user_realm,omitempty"`

	// Who may be impersonated: `alice`, `alice@REALM`, `CORP\alice` or a UPN; `*`
	// matches any characters, case does not matter. A name without a realm is a user
	// of `user_realm`. The requested name, the name that the KDC returns, and the
	// account's name in the user's ticket, if a key of the proxy's account opens that,
	// all have to match. Rules take no placeholders, and one that can never match is
	// rejected, as is an empty list. Default: everyone that the KDC allows.
	AllowUsers []string `json:"allow_users,omitempty"`

	// Who may not be impersonated, in the same form, which is checked in the same way:
	// a user is denied if one of the three names matches, and if no key of the proxy's
	// account opens the user's ticket. Takes precedence over `allow_users`; needs a
	// keytab or a password, unless users sign in with their tickets. A name without a realm is that user in any realm, and the
	// first part of any UPN. Default: no one.
	DenyUsers []string `json:"deny_users,omitempty"`

	// How many idle connections to upstreams all users of this transport keep together,
	// from 1 to 1000000; the least recently used is closed first. One takes about 42 kB with TLS.
	// Default: 2000.
	UserConnections int `json:"user_connections,omitempty"`

	// Whether users share connections to an upstream that authenticates each request by
	// its token. It has to have answered two tokens of one user, on one connection of that
	// user, each with a valid proof (`mutual_auth`, which must not be `off`). Only GET,
	// HEAD and OPTIONS without a body use shared connections. A response without a valid
	// proof is not passed on: the request is repeated on a connection of the user, and the
	// upstream's connections are not shared until the configuration is loaded again. It
	// cannot be proved that the upstream runs each request as the user whose token it has
	// read; see docs/delegation.md. Default: `false`.
	ShareConnections bool `json:"share_connections,omitempty"`
}

const (
	defaultUserConnections = 2000
	maxUserConnections     = 1_000_000
)

// MaxConnections is the effective value of UserConnections.
func (i *Impersonation) MaxConnections() int {
	return cmp.Or(i.UserConnections, defaultUserConnections)
}

// Enabled reports whether users are impersonated.
func (i *Impersonation) Enabled() bool { return i.Impersonate != "" }

// clientTicket is the value of Impersonate for users who have signed in with a ticket.
const clientTicket = "client_ticket"

// ByTicket reports whether users are impersonated by the tickets that they signed in with.
func (i *Impersonation) ByTicket() bool { return i.Impersonate == clientTicket }

// Check checks what the text alone shows.
func (i *Impersonation) Check() error {
	if i.Enabled() {
		return cmp.Or(Setting("impersonate", i.checkSource()), Setting("allow_users", checkUserRules(i.AllowUsers)),
			Setting("deny_users", checkUserRules(i.DenyUsers)), Setting("user_connections", i.checkConnections()))
	}
	alone := errors.New("requires impersonate")
	switch {
	case i.TrustHeader != "":
		return Setting("trust_header", alone)
	case i.UserRealm != "":
		return Setting("user_realm", alone)
	case i.AllowUsers != nil:
		return Setting("allow_users", alone)
	case i.DenyUsers != nil:
		return Setting("deny_users", alone)
	case i.UserConnections != 0:
		return Setting("user_connections", alone)
	case i.ShareConnections:
		return Setting("share_connections", alone)
	}
	return nil
}

// checkSource rejects placeholders whose value a client could choose.
func (i *Impersonation) checkSource() error {
	if i.ByTicket() {
		if i.TrustHeader != "" {
			return fmt.Errorf("client_ticket takes the user from their ticket, not from the header %s: remove trust_header", i.TrustHeader)
		}
		return nil
	}
	names, err := Placeholders(i.Impersonate)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("%q is neither a placeholder nor client_ticket; write e.g. {http.auth.user.id}", i.Impersonate)
	}
	trusted := false
	for _, name := range names {
		header, isHeader := strings.CutPrefix(name, "http.request.header.")
		switch {
		case strings.HasPrefix(name, "http.auth."), strings.HasPrefix(name, "http.request.tls.client."), Fixed(name):
		case isHeader && strings.EqualFold(header, i.TrustHeader):
			trusted = true
		case isHeader:
			return fmt.Errorf("any client can send the header %s: if a gateway in front sets or removes it on every request, add trust_header %s", header, header)
		default:
			return fmt.Errorf("{%s} depends on what clients send; use {http.auth.*}, {http.request.tls.client.*} or a trusted header", name)
		}
	}
	if i.TrustHeader != "" && !trusted {
		return fmt.Errorf("trust_header %s is set, but impersonate does not use it", i.TrustHeader)
	}
	return nil
}

func (i *Impersonation) checkConnections() error {
	if i.UserConnections < 0 || i.UserConnections > maxUserConnections {
		return fmt.Errorf("%d is not a number from 1 to %d", i.UserConnections, maxUserConnections)
	}
	return nil
}

// Compile returns what impersonates users; nil if none are. The settings have been
// checked; own is the account's realm, and kind what the account logs in with.
func (i *Impersonation) Compile(realms *RealmConfig, own string, kind negotiate.SecretKind) (*Impersonator, error) {
	if !i.Enabled() {
		return nil, nil
	}
	if !i.ByTicket() {
		if err := i.checkTransition(kind); err != nil {
			return nil, err
		}
	}
	m := &Impersonator{source: i.Impersonate, form: realms.UserForm("", cmp.Or(i.UserRealm, own))}
	var err error
	if m.allow, err = compileUserRules(i.AllowUsers, m.form, false); err != nil {
		return nil, Setting("allow_users", err)
	}
	if m.deny, err = compileUserRules(i.DenyUsers, m.form, true); err != nil {
		return nil, Setting("deny_users", err)
	}
	return m, nil
}

// checkTransition checks what protocol transition (S4U2Self) needs. Its tickets are opened with
// the account's key, those of users who sign in have been opened.
func (i *Impersonation) checkTransition(kind negotiate.SecretKind) error {
	if i.DenyUsers != nil && (kind == negotiate.KindCCache || kind == negotiate.KindCertificate) {
		return Setting("deny_users", fmt.Errorf("needs a key of the account, which a %s does not have, to read whose a user's ticket is; use allow_users, or a keytab", kind))
	}
	return Setting("impersonate", RequireUnapproved("PA-FOR-USER (HMAC-MD5, [MS-SFU] 2.2.1)", "leave impersonate out"))
}

// Impersonator determines the user of a request and applies allow_users and
// deny_users.
type Impersonator struct {
	source      string // a text with placeholders, or clientTicket
	form        krb5core.UserForm
	allow, deny *userRules
}

// ByTicket reports whether users are impersonated by the tickets that they signed in with.
func (m *Impersonator) ByTicket() bool { return m.source == clientTicket }

// Parse reads a user's name as Impersonate does.
func (m *Impersonator) Parse(name string) (negotiate.User, error) {
	return negotiate.ParseUser(name, m.form)
}

// User returns the user of a request to be impersonated by the account, and the name that they
// signed in with, which is empty if there is no user.
func (m *Impersonator) User(ctx context.Context, repl *caddy.Replacer, account *negotiate.Identity) (user negotiate.User, name string, err error) {
	if m.ByTicket() {
		return m.signedIn(signin.UserOf(ctx), account)
	}
	if name, err = m.name(repl); err != nil {
		return user, "", err
	}
	if user, err = m.Parse(name); err == nil {
		err = m.Admit(user.Principal())
	}
	return user, name, err
}

// signedIn returns the user for one who has signed in, who may be nil.
func (m *Impersonator) signedIn(u *signin.User, account *negotiate.Identity) (user negotiate.User, name string, err error) {
	if u == nil {
		return user, "", negotiate.ErrUserMissing
	}
	name = u.Principal.String()
	switch a := u.Acceptor; {
	case !sameAccount(a, account.Configured()) && !sameAccount(a, account.Principal()):
		return user, name, fmt.Errorf("%w: tickets for %s, impersonated by %s", negotiate.ErrOtherAccount, a, account.Configured())
	case u.Evidence == nil:
		return user, name, negotiate.ErrTicketGone
	}
	sid := ""
	if u.Account != nil {
		sid = string(u.Account.SID)
	}
	return negotiate.SignedIn(u.Evidence, sid), name, m.Admit(u.Principal)
}

// sameAccount compares names as Active Directory does.
func sameAccount(a, b messages.Principal) bool { return strings.EqualFold(a.String(), b.String()) }

// name returns the name that the user signed in with.
func (m *Impersonator) name(repl *caddy.Replacer) (string, error) {
	missing := false
	name, err := repl.ReplaceFunc(m.source, func(_ string, value any) (any, error) {
		missing = missing || caddy.ToString(value) == ""
		return value, nil
	})
	if err == nil && (missing || strings.TrimSpace(name) == "") {
		err = negotiate.ErrUserMissing
	}
	return name, err
}

// Admit applies the rules to a user's name.
func (m *Impersonator) Admit(user messages.Principal) error {
	if m.allow == nil && m.deny == nil {
		return nil
	}
	certain, possible := namesOf(user, m.form.Default)
	if m.denies(certain, possible) {
		return fmt.Errorf("%w: %s", negotiate.ErrUserDenied, user)
	}
	return nil
}

// denies reports whether the rules exclude a user of these names. A name that cannot be
// compared is no one's that they admit.
func (m *Impersonator) denies(certain, possible []string) bool {
	odd := func(name string) bool { return !krb5core.Comparable(name) }
	return slices.ContainsFunc(certain, odd) || m.deny.matchAny(certain) || m.deny.matchAny(possible) ||
		m.allow != nil && !m.allow.matchAny(certain)
}

// AdmitTicket applies the rules to the names in an impersonated user's ticket: that which
// the KDC returned, and the account's, because KDCs repeat a requested name (Samba) and
// find DC1$ by the name dc1. A user whose account deny_users cannot be applied to is
// denied.
func (m *Impersonator) AdmitTicket(cred *messages.Credential) error {
	if m.allow == nil && m.deny == nil {
		return nil
	}
	account := cred.Account
	switch {
	case m.deny != nil && account == nil:
		etype := "an unknown type"
		if ticket, err := messages.ParseTicket(cred.Ticket); err == nil {
			etype = ticket.EncPart.EType.String()
		}
		return fmt.Errorf("%w: the ticket of %s is encrypted with %s", negotiate.ErrAccountUnknown, cred.Client, etype)
	case account == nil || account.Name == "": // MIT and Heimdal
		if m.deny != nil && isUPN(cred.Client) {
			return fmt.Errorf("%w: the KDC does not name the account of the user principal name %s, so deny_users cannot be applied", negotiate.ErrUserDenied, cred.Client)
		}
	case m.denies(namesOfAccount(account, cred.Client.Realm, m.form.Default)):
		return fmt.Errorf("%w: %s is the account %s", negotiate.ErrUserDenied, cred.Client, account.Name)
	}
	return m.Admit(cred.Client)
}
