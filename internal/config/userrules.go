package config

import (
	"errors"
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
type userRules struct {
	pattern *regexp.Regexp
	folded  *regexp.Regexp // for folded names; nil if folding does not apply
}

// compileUserRules compiles globs. CORP\alice becomes alice@CORP.EXAMPLE, so that
// all forms of the name match. With fold, names match that are equal to Active
// Directory.
func compileUserRules(globs []string, form krb5core.UserForm, fold bool) (*userRules, error) {
	if len(globs) == 0 {
		return nil, nil
	}
	var plain, folded []string
	for _, text := range globs {
		if domain, name, ok := strings.Cut(text, `\`); ok {
			realm, err := realmOfDomain(domain, form)
			if err != nil {
				return nil, err
			}
			text = name + "@" + realm
		}
		plain, folded = append(plain, text), append(folded, foldName(text))
	}
	rules := &userRules{pattern: compileGlobs(plain)}
	if fold {
		rules.folded = compileGlobs(folded)
	}
	return rules, nil
}

// checkUserRules rejects rules that match no user, and a list without rules, which
// would be the same as none.
func checkUserRules(globs []string) error {
	if globs != nil && len(globs) == 0 {
		return errors.New("the list is empty; name users, or leave it out")
	}
	for _, text := range globs {
		domain, name, inDomain := strings.Cut(text, `\`)
		switch _, err := krb5core.ParseEndUser(text, krb5core.UserForm{Default: "*"}); {
		case inDomain && domain == "":
			return fmt.Errorf(`%q has an empty domain; write CORP\%s, or leave the backslash out`, text, name)
		case strings.Contains(text, "{"):
			return fmt.Errorf("%q matches no user: rules take no placeholders; write the name, or {$NAME}, which the Caddyfile replaces when it is read", text)
		case err != nil:
			return fmt.Errorf("a rule that matches no user: %w; write alice, alice@REALM, *@REALM or CORP\\alice", err)
		}
	}
	return nil
}

// realmOfDomain returns the realm of DOMAIN\name in a rule. It must be known,
// because a rule that never matches denies no one.
func realmOfDomain(domain string, form krb5core.UserForm) (string, error) {
	if form.NetBIOS != nil {
		if realm := form.NetBIOS(domain); realm != "" {
			return realm, nil
		}
	}
	if strings.EqualFold(domain, form.Default) || strings.ContainsAny(domain, "*.") {
		return domain, nil
	}
	return "", fmt.Errorf("%s is not the NetBIOS name of a configured realm: add netbios %s to its realm block in the global option kerberos, or write NAME@REALM", domain, domain)
}

// matchAny reports whether a rule matches one of the names; nil matches none.
func (r *userRules) matchAny(names []string) bool {
	return r != nil && slices.ContainsFunc(names, func(name string) bool {
		return r.pattern.MatchString(name) || r.folded != nil && r.folded.MatchString(foldName(name))
	})
}

// namesOf lists the names of a principal in rules, those that certainly are the user's
// and those that possibly are: alice@REALM and, in the home realm, alice. The part of a
// UPN before the at sign usually is the user's name, but need not be.
func namesOf(user messages.Principal, home string) (certain, possible []string) {
	name := strings.Join(user.Name.NameString, "/")
	if !isUPN(user) {
		if user.Realm == home {
			return []string{name + "@" + user.Realm, name}, nil
		}
		return []string{name + "@" + user.Realm}, []string{name}
	}
	at := strings.LastIndexByte(name, '@')
	certain = []string{name}
	if strings.EqualFold(name[at+1:], home) {
		certain = append(certain, name[:at])
	}
	return certain, []string{name[:at], name[:at] + "@" + user.Realm}
}

// namesOfAccount lists the names of an account in rules, as namesOf does. A machine's
// account may be one whose name lacks the dollar sign, which rules that deny expect.
func namesOfAccount(account *messages.Account, realm, home string) (certain, possible []string) {
	certain = []string{account.Name + "@" + realm}
	if realm == home {
		certain = append(certain, account.Name)
	} else {
		possible = append(possible, account.Name)
	}
	if account.Machine && !strings.HasSuffix(account.Name, "$") {
		possible = append(possible, account.Name+"$", account.Name+"$@"+realm)
	}
	return certain, possible
}

// isUPN reports whether the name is a user principal name, whatever name type the
// KDC returned.
func isUPN(user messages.Principal) bool {
	return slices.ContainsFunc(user.Name.NameString, func(part string) bool { return strings.Contains(part, "@") })
}

// foldName maps names that Active Directory treats as equal to one. Letters become upper
// case as in the table of [MS-UCODEREF], Section 3.1.5.3, whose entries are among
// Unicode's simple mappings. Accents, the width of letters and the kind of kana do not
// count, nor do symbols, some of which a domain controller may not know and ignore. It may
// map more names to one than Active Directory does, so it is for rules that deny.
func foldName(name string) string {
	const katakana, hiragana = 'ァ', 'ぁ'
	plain := strings.Map(func(r rune) rune {
		switch {
		case unicode.In(r, unicode.Mn, unicode.So):
			return -1
		case katakana <= r && r <= 'ヶ':
			return r - katakana + hiragana
		}
		return unicode.ToUpper(r)
	}, norm.NFKD.String(name))
	return strings.Join(strings.Fields(expansions.Replace(plain)), " ")
}

// expansions are Latin letters that Unicode does not decompose, and what Windows sorts them
// with.
var expansions = strings.NewReplacer("ß", "SS", "ẞ", "SS", "Æ", "AE", "Œ", "OE", "Þ", "TH",
	"Ø", "O", "Ł", "L", "Đ", "D", "Ð", "D", "Ħ", "H", "Ŧ", "T")
