package krb5core

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// UserForm says how a user's name is read.
type UserForm struct {
	// Realm is the realm that is configured beside the name, empty if none is.
	Realm string
	// Default is the realm of a bare name where Realm is empty.
	Default string
	// NetBIOS returns the realm of a domain's short name. If it is nil or returns "", the realm is
	// the name itself in upper case.
	NetBIOS func(domain string) string
}

// ParseUser reads a user's name in any of these forms:
//
//	alice@CORP.EXAMPLE     alice of that realm (always in upper case)
//	CORP.EXAMPLE/alice     the same
//	CORP\alice             the same, the realm often by its NetBIOS name
//	alice                  alice of the configured or the default realm
//	alice@corp.example     with another realm configured: a UPN, which that realm's KDC
//	                       translates (RFC 6806, Section 5)
//
// With an @, or with a realm configured, a slash belongs to the principal, as in
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
		return parseName(name, cmp.Or(form.Realm, strings.ToUpper(suffix)))
	case strings.Contains(user, `\`):
		return form.inDomain(user)
	case form.Realm != "":
		return parseName(user, form.Realm)
	case strings.Contains(user, "/"):
		realm, rest, _ := strings.Cut(user, "/")
		return parseName(rest, strings.ToUpper(realm))
	case form.Default == "":
		return messages.Principal{}, fmt.Errorf("%q names no realm: write %s@REALM, or set the realm beside it", user, user)
	default:
		return parseName(user, form.Default)
	}
}

func (f UserForm) inDomain(user string) (messages.Principal, error) {
	realm, name, _ := splitDomain(user, f.NetBIOS)
	if realm == "" {
		return messages.Principal{}, fmt.Errorf("%q has an empty realm before the backslash; write REALM%s, or leave the backslash out", user, user)
	}
	if f.Realm != "" && !strings.EqualFold(realm, f.Realm) {
		domain, _, _ := strings.Cut(user, `\`)
		return messages.Principal{}, fmt.Errorf("%q is of domain %s, but the realm is set to %s; drop one of them", user, domain, f.Realm)
	}
	return parseName(strings.ReplaceAll(name, `\`, `\\`), cmp.Or(f.Realm, realm))
}

// splitDomain splits DOMAIN\name at its first backslash and returns the realm of the domain, empty
// for an empty domain. ok is false for text without a backslash.
func splitDomain(text string, netBIOS func(domain string) string) (realm, name string, ok bool) {
	domain, name, ok := strings.Cut(text, `\`)
	if !ok {
		return "", "", false
	}
	if netBIOS != nil && domain != "" {
		realm = netBIOS(domain)
	}
	return cmp.Or(realm, strings.ToUpper(domain)), name, true
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

// cutLastAt splits a name at its last @ that is not escaped.
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

// escapeAts escapes every @, so that it is part of the name.
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

// ErrEndUser is wrapped by the errors of [ParseEndUser].
var ErrEndUser = errors.New("not the name of a user")

// maxEndUser bounds the length of an end user's name: Active Directory allows a
// UPN 1024 characters, but none in use is longer than this.
const maxEndUser = 512

// oddInUser reports whether a character is part of no user's name: a slash, which separates a
// service from its host, or one that cannot be compared.
func oddInUser(r rune) bool { return r == '/' || incomparable(r) }

// incomparable reports whether a character is invisible, unassigned or for private use. Active
// Directory ignores such characters when it compares names, so that one user could pass as another.
func incomparable(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Cn, unicode.Co, unicode.Cs, unicode.Zl, unicode.Zp,
		unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Comparable reports whether a user's name can be compared with others: whether Active Directory
// regards all of its characters.
func Comparable(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsFunc(name, incomparable)
}

// ParseEndUser reads the name of a user to impersonate, as authentication providers return it:
// alice, CORP\alice, or alice@corp.example. The last is a user principal name, whatever follows the
// @; the KDC finds its account (RFC 6806, Section 5). A second @ is refused: one of the two would be
// chosen by the user where the other is part of a template such as {name}@CORP.EXAMPLE.
func ParseEndUser(user string, form UserForm) (messages.Principal, error) {
	switch {
	case user == "" || len(user) > maxEndUser || !utf8.ValidString(user):
		return messages.Principal{}, fmt.Errorf("%w: %.64q is empty, too long, or not UTF-8", ErrEndUser, user)
	case strings.ContainsFunc(user, oddInUser) || strings.TrimSpace(user) != user:
		return messages.Principal{}, fmt.Errorf("%w: %.64q has a slash, a space at an end, or what cannot be seen", ErrEndUser, user)
	}
	if before, after, isUPN := strings.Cut(user, "@"); isUPN {
		if before == "" || after == "" || strings.ContainsAny(after, `@\`) || strings.Contains(before, `\`) {
			return messages.Principal{}, fmt.Errorf("%w: %.64q has nothing before or after the @, or a second @ or a backslash beside it", ErrEndUser, user)
		}
		return messages.Principal{
			Name:  messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, user),
			Realm: form.Default,
		}, nil
	}
	realm, name, inDomain := splitDomain(user, form.NetBIOS)
	if !inDomain {
		realm, name = form.Default, user
	}
	if name == "" || realm == "" || strings.Contains(name, `\`) {
		return messages.Principal{}, fmt.Errorf("%w: %.64q has no name or no realm", ErrEndUser, user)
	}
	return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, name), Realm: realm}, nil
}
