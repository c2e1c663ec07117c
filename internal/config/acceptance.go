package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pac"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
)

// Acceptance says which users may sign in, and with tickets for what.
type Acceptance struct {
	// Service principals that tickets may be for, e.g. `HTTP/app.example.com`. One that
	// the keytab does not have needs `user` set to an account whose key it has: in
	// Active Directory all names of an account have one key. Default: every `HTTP/`
	// principal of the keytab. Required if it has none, and with a password.
	SPN []string `json:"spn,omitempty"`

	// Realms whose users may sign in, without regard to case; others are answered with
	// 403. Default: all whose users get tickets, the account's own and those that it
	// trusts.
	Realms []string `json:"realms,omitempty"`

	// Who may sign in, by the groups in the ticket's PAC: SIDs
	// (`S-1-5-21-1004336348-1177238915-682003330-512`), or globs over them, where `*` matches any
	// characters. One group must match, else the answer is 403. Groups that only deny do not count.
	// A ticket without a PAC that has groups, as MIT's KDC issues, is refused. Default: everyone.
	AllowGroups []string `json:"allow_groups,omitempty"`

	// Who may not sign in, in the same form; takes precedence over `allow_groups`. Groups that
	// only deny count. A ticket without a PAC that has groups is refused. Default: no one.
	DenyGroups []string `json:"deny_groups,omitempty"`

	// How a token's channel bindings are checked (tls-server-end-point, RFC 5929; Windows calls
	// it Extended Protection): `auto` if the client sends any, `required`, or `off`. On plain HTTP,
	// `auto` refuses a token with channel bindings, and `required` is rejected. Default: `auto`.
	ChannelBinding string `json:"channel_binding,omitempty"`

	// Path of the certificate that clients see, PEM or DER, if a TLS terminator is in front.
	ChannelBindingCert string `json:"channel_binding_cert,omitempty"`
}

// Readers returns what reads the subdirectives.
func (a *Acceptance) Readers() Block {
	return Block{
		"spn":             ReadList(&a.SPN),
		"realms":          ReadList(&a.Realms),
		"allow_groups":    ReadList(&a.AllowGroups),
		"deny_groups":     ReadList(&a.DenyGroups),
		"channel_binding": ReadChannelBinding(&a.ChannelBinding, &a.ChannelBindingCert),
	}
}

// ReadChannelBinding reads auto, off, required, or cert FILE.
func ReadChannelBinding(mode, cert *string) Reader {
	return func(d *caddyfile.Dispenser) error {
		switch args := d.RemainingArgs(); {
		case len(args) == 1 && slices.Contains([]string{"auto", "off", "required"}, args[0]):
			*mode = args[0]
		case len(args) == 2 && args[0] == "cert":
			*cert = args[1]
		default:
			return d.Err("channel_binding takes auto, off, required, or cert FILE")
		}
		return nil
	}
}

// Check checks what the text alone shows.
func (a *Acceptance) Check() error {
	_, err := a.parse()
	return err
}

// acceptance is an Acceptance whose texts have been parsed.
type acceptance struct {
	names       []negotiate.SPN
	allow, deny *regexp.Regexp // nil for none
	binding     ChannelBinding
}

func (a *Acceptance) parse() (*acceptance, error) {
	p := new(acceptance)
	for _, text := range a.SPN {
		if strings.Contains(text, "{") {
			return nil, Setting("spn", fmt.Errorf("%q: the names of the service do not depend on requests, so placeholders have no value here", text))
		}
		spn, err := negotiate.ParseSPN(text)
		if err != nil {
			return nil, Setting("spn", err)
		}
		p.names = append(p.names, spn)
	}
	for _, list := range []struct {
		name  string
		items []string
		to    **regexp.Regexp
	}{{"allow_groups", a.AllowGroups, &p.allow}, {"deny_groups", a.DenyGroups, &p.deny}} {
		if err := checkGroups(list.items); err != nil {
			return nil, Setting(list.name, err)
		}
		if list.items != nil {
			*list.to = compileGlobs(list.items)
		}
	}
	if a.Realms != nil && (len(a.Realms) == 0 || slices.Contains(a.Realms, "")) {
		return nil, Setting("realms", errors.New("the list admits no one; remove it, or name realms"))
	}
	for _, realm := range a.Realms {
		if strings.ContainsAny(realm, "*{@") {
			return nil, Setting("realms", fmt.Errorf("%q is not the name of a realm, so it admits no one; write e.g. realms CORP.EXAMPLE", realm))
		}
	}
	var err error
	p.binding, err = ParseChannelBinding(a.ChannelBinding, a.ChannelBindingCert)
	return p, err
}

var sidGlob = regexp.MustCompile(`^(?i:S-1-[-0-9*]*|\*[-0-9*]*)$`)

// checkGroups rejects an empty list, and what can match no SID.
func checkGroups(list []string) error {
	if list != nil && len(list) == 0 {
		return errors.New("the list is empty; remove it, or name groups")
	}
	for _, text := range list {
		if !sidGlob.MatchString(text) {
			return fmt.Errorf("%q is not a SID; tickets have the SIDs of groups and not their names: write S-1-5-21-... (Windows: Get-ADGroup NAME)", text)
		}
	}
	return nil
}

// Compile returns the settings for an account, whose credentials have been resolved.
func (a *Acceptance) Compile(r *Resolved) (*Admission, error) {
	p, err := a.parse()
	if err != nil {
		return nil, err
	}
	kind := r.Secret.Kind
	if kind == negotiate.KindCCache || kind == negotiate.KindCertificate || kind == negotiate.KindPlatform {
		return nil, fmt.Errorf("negotiate_auth needs a key of the account to open the tickets of clients, which a %s does not have; use keytab or password_file", kind)
	}
	m := &Admission{Binding: p.binding, names: p.names, realms: a.Realms, allow: p.allow, deny: p.deny}
	for _, spn := range p.names {
		m.Services = append(m.Services, spn.Principal())
	}
	if m.AnyName, err = checkServices(m.Services, r); err == nil && len(p.names) == 0 {
		m.names = r.httpServices()
	}
	return m, Setting("spn", err)
}

// httpServices are the services of class HTTP that the keytab has usable keys for.
func (r *Resolved) httpServices() (names []negotiate.SPN) {
	for _, p := range r.Keytab.Principals() {
		usable := func(e keytab.Entry) bool { return e.Principal.Equal(p) && r.usable(e) }
		if !isHTTP(p) || !slices.ContainsFunc(r.Keytab.Entries, usable) {
			continue
		}
		if spn, err := negotiate.ParseSPN(p.String()); err == nil {
			names = append(names, spn)
		}
	}
	return names
}

// checkServices makes sure that there is a key for each service. It reports whether the account's
// own key has to do for one.
func checkServices(services []messages.Principal, r *Resolved) (anyName bool, err error) {
	if r.Keytab == nil {
		if len(services) == 0 {
			return false, errors.New("is missing: a password does not tell the names of the service; write e.g. spn HTTP/app.example.com")
		}
		return true, nil
	}
	if len(services) == 0 && len(r.httpServices()) == 0 {
		return false, errors.New("is missing: the keytab has no key of an HTTP/ principal that may be used; write e.g. spn HTTP/app.example.com")
	}
	for _, s := range services {
		has := func(e keytab.Entry) bool { return r.usable(e) && isService(e.Principal, s) }
		switch {
		case slices.ContainsFunc(r.Keytab.Entries, has):
		case r.UserSet:
			anyName = true
		default:
			return false, fmt.Errorf("the keytab %s has no key of %s that may be used, only of %s; export it for that name, or, if one account has all of these names "+
				"(Active Directory), set user to that account, e.g. user %s", r.Secret.Path, s.Name, r.Principal, r.Principal)
		}
	}
	return anyName, nil
}

func isHTTP(p messages.Principal) bool {
	return len(p.Name.NameString) == 2 && strings.EqualFold(p.Name.NameString[0], "HTTP")
}

// isService reports whether a principal is the service, which has a realm or not.
func isService(p, service messages.Principal) bool {
	return slices.EqualFunc(p.Name.NameString, service.Name.NameString, strings.EqualFold) && (service.Realm == "" || strings.EqualFold(p.Realm, service.Realm))
}

// usable reports whether the type of a keytab's key is allowed.
func (r *Resolved) usable(e keytab.Entry) bool {
	return slices.Contains(r.ETypes, e.Key.EType()) && e.Key.EType().Supported()
}

// Admission says which users may sign in, and with tickets for what.
type Admission struct {
	// Services are the principals that tickets may be for; none for those of the keytab.
	Services []messages.Principal
	// AnyName is set if the account's own keys open the tickets for all Services.
	AnyName bool
	// Binding is how channel bindings are checked.
	Binding ChannelBinding

	names       []negotiate.SPN
	realms      []string
	allow, deny *regexp.Regexp
}

// Names are the services: those of the configuration, else those that the keytab has when it is
// loaded.
func (m *Admission) Names() []negotiate.SPN { return m.names }

// The errors of Admit.
var (
	ErrRealmDenied  = errors.New("realms does not name the user's realm")
	ErrNoGroups     = errors.New("the ticket has no PAC that names groups, so allow_groups and deny_groups cannot be applied")
	ErrGroupDenied  = errors.New("deny_groups names a group of the user")
	ErrGroupMissing = errors.New("allow_groups names no group of the user")
)

// Admit reports whether a user who has proved who they are may enter. The account is nil if the
// ticket did not describe one.
func (m *Admission) Admit(user messages.Principal, account *accept.Account) error {
	if m.realms != nil && !slices.ContainsFunc(m.realms, func(r string) bool { return strings.EqualFold(r, user.Realm) }) {
		return ErrRealmDenied
	}
	if m.allow == nil && m.deny == nil {
		return nil
	}
	matches := func(r *regexp.Regexp, groups []pac.SID) bool {
		return r != nil && slices.ContainsFunc(groups, func(g pac.SID) bool { return r.MatchString(string(g)) })
	}
	switch {
	case account == nil:
		return ErrNoGroups
	case matches(m.deny, account.Groups), matches(m.deny, account.DenyOnly):
		return ErrGroupDenied
	case m.allow != nil && !matches(m.allow, account.Groups):
		return ErrGroupMissing
	}
	return nil
}

// firstService returns the principal of the keytab that an account without a name is known by: the
// first of class HTTP, else the first.
func firstService(all []messages.Principal) messages.Principal {
	return all[max(0, slices.IndexFunc(all, isHTTP))]
}
