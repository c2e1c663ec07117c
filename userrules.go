package caddynegotiate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// userRules are allow_users or deny_users; nil if there are none.
type userRules []userRule

type userRule struct {
	pattern *regexp.Regexp
	folded  *regexp.Regexp // for names as Active Directory compares them; nil where that is not asked for
}

// compileUserRules reads globs. CORP\alice becomes alice@CORP.EXAMPLE, so that it is
// found whichever way the name is written. With fold, what Active Directory takes for
// the same name matches too.
func compileUserRules(globbed []string, form krb5core.UserForm, fold bool) (userRules, error) {
	var rules userRules
	for _, text := range globbed {
		if domain, name, ok := strings.Cut(text, `\`); ok {
			realm, err := realmOfDomain(domain, form)
			if err != nil {
				return nil, err
			}
			text = name + "@" + realm
		}
		if strings.Trim(text, "@ ") == "" {
			return nil, fmt.Errorf("%q names nobody; write alice, alice@REALM, or *@REALM", text)
		}
		rule := userRule{pattern: globs([]string{text})}
		if fold {
			rule.folded = globs([]string{foldName(text)})
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// realmOfDomain gives the realm of DOMAIN\name in a rule, which must be known: a rule
// that never matches denies nobody.
func realmOfDomain(domain string, form krb5core.UserForm) (string, error) {
	if form.NetBIOS != nil {
		if realm := form.NetBIOS(domain); realm != "" {
			return realm, nil
		}
	}
	if strings.EqualFold(domain, form.Default) || strings.ContainsAny(domain, "*.") {
		return domain, nil
	}
	return "", fmt.Errorf("whose NetBIOS name is %s? Say netbios %s in the realm block of the global option kerberos, or write NAME@REALM", domain, domain)
}

func (r userRules) matchAny(names []string) bool {
	return slices.ContainsFunc(r, func(rule userRule) bool {
		return slices.ContainsFunc(names, rule.pattern.MatchString) ||
			rule.folded != nil && slices.ContainsFunc(names, func(name string) bool { return rule.folded.MatchString(foldName(name)) })
	})
}

// userNames are the names that a user goes by in rules: those that are his for sure,
// and those that may be his.
type userNames struct{ sure, maybe []string }

// namesOf lists the names of a principal: alice@REALM and, in the default realm,
// alice. The part of a UPN before the at sign is a name of his as a rule only.
func namesOf(user messages.Principal, home string) userNames {
	name := strings.Join(user.Name.NameString, "/")
	if isUPN(user) {
		at := strings.LastIndexByte(name, '@')
		names := userNames{sure: []string{name}, maybe: []string{name[:at], name[:at] + "@" + user.Realm}}
		if strings.EqualFold(name[at+1:], home) {
			names.sure = append(names.sure, name[:at])
		}
		return names
	}
	names := userNames{sure: []string{name + "@" + user.Realm}}
	if user.Realm == home {
		names.sure = append(names.sure, name)
	} else {
		names.maybe = []string{name}
	}
	return names
}

// isUPN tells a user principal name, whatever type a KDC gives it.
func isUPN(user messages.Principal) bool {
	return slices.ContainsFunc(user.Name.NameString, func(part string) bool { return strings.Contains(part, "@") })
}

// foldName makes one of all names that Active Directory holds to be equal, though it
// may return them as they were asked: it minds neither accents, nor the width of
// letters, nor what cannot be seen.
func foldName(name string) string {
	plain := strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Mn, unicode.Cf, unicode.Cc) {
			return -1
		}
		return r
	}, norm.NFKD.String(name))
	return strings.Join(strings.Fields(plain), " ")
}
