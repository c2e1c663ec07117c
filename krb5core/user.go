package krb5core

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// UserForm says how a user's name is to be understood.
type UserForm struct {
	// Realm is the realm that was stated beside the name, empty if none was.
	Realm string
	// Default is the realm of a bare name where Realm is empty.
	Default string
	// NetBIOS gives the realm of a domain's short name; nil or an empty answer
	// takes the name itself, in capitals, for the realm.
	NetBIOS func(domain string) string
}

// ParseUser reads a user's name in any of the forms that people write:
//
//	alice@CORP.EXAMPLE     alice of that realm (in capitals, whatever is written)
//	CORP.EXAMPLE/alice     the same
//	CORP\alice             the same, the realm often by its NetBIOS name
//	alice                  alice of the stated or the default realm
//	alice@corp.example     with another realm stated: a UPN, which that realm's KDC
//	                       translates (RFC 6806 5)
//
// With an @, or with a realm stated, a slash belongs to the principal, as in
// HTTP/proxy.corp.example@CORP.EXAMPLE, and a backslash escapes the character
// after it.
func ParseUser(user string, form UserForm) (messages.Principal, error) {
	name, suffix, hasAt := cutLastAt(user)
	switch {
	case user == "":
		return messages.Principal{}, errors.New("the name is empty")
	case hasAt && suffix == "":
		return messages.Principal{}, fmt.Errorf("%q has no realm after the @", user)
	case hasAt && form.Realm != "" && !strings.EqualFold(suffix, form.Realm):
		return messages.ParseEnterprise(escapeAts(user), form.Realm)
	case hasAt:
		realm := form.Realm
		if realm == "" {
			realm = strings.ToUpper(suffix)
		}
		return parseName(name, realm)
	case strings.Contains(user, `\`):
		domain, rest, _ := strings.Cut(user, `\`)
		return form.inDomain(user, domain, rest)
	case form.Realm != "":
		return parseName(user, form.Realm)
	case strings.Contains(user, "/"):
		realm, rest, _ := strings.Cut(user, "/")
		return parseName(rest, strings.ToUpper(realm))
	case form.Default == "":
		return messages.Principal{}, fmt.Errorf("%q names no realm: write %s@REALM, or state the realm beside it", user, user)
	default:
		return parseName(user, form.Default)
	}
}

// inDomain reads DOMAIN\name.
func (f UserForm) inDomain(user, domain, name string) (messages.Principal, error) {
	realm := ""
	if f.NetBIOS != nil {
		realm = f.NetBIOS(domain)
	}
	if realm == "" {
		realm = strings.ToUpper(domain)
	}
	if f.Realm != "" && !strings.EqualFold(realm, f.Realm) {
		return messages.Principal{}, fmt.Errorf("%q is of domain %s, but the realm is stated as %s; drop one of them", user, domain, f.Realm)
	}
	if f.Realm != "" {
		realm = f.Realm
	}
	return parseName(strings.ReplaceAll(name, `\`, `\\`), realm)
}

// parseName reads the components before the realm, with MIT's escapes.
func parseName(name, realm string) (messages.Principal, error) {
	p, err := messages.ParsePrincipal(escapeAts(name), realm)
	if err != nil {
		return messages.Principal{}, err
	}
	if slices.Contains(p.Name.NameString, "") {
		return messages.Principal{}, fmt.Errorf("%q has an empty part", name)
	}
	if realm == "" {
		return messages.Principal{}, fmt.Errorf("%q has an empty realm", name)
	}
	return p, nil
}

// cutLastAt parts a name at its last @ that is not escaped.
func cutLastAt(s string) (before, after string, found bool) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] != '@' {
			continue
		}
		escapes := 0
		for j := i - 1; j >= 0 && s[j] == '\\'; j-- {
			escapes++
		}
		if escapes%2 == 0 {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// escapeAts makes every @ part of the name.
func escapeAts(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			b.WriteByte('\\')
			i++
		case s[i] == '@':
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
