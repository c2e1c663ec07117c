package command_test

import (
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

// The whole way to the password is in the report, and each step that fails with its remedy.
func TestCheck_ManagedPassword(t *testing.T) {
	l := newCommandLab(t, caddytest.Options{})
	m := caddytest.NewManaged(l.Env)
	site := func(gmsa string) string { return l.caddyfile(l.usual(gmsa)...) }
	right := m.GMSA("server "+m.Server(), "tls_ca "+m.CA)

	text, c := l.check(site(right))
	l.wantOK(text, c)
	words := strings.Join(strings.Fields(text), " ")
	for _, fact := range []string{
		"keytab " + l.Keytab + " has",         // the reader's
		"login svc-proxy@CORP.EXAMPLE, until", // its login
		"domain controllers of CORP.EXAMPLE: localhost:" + m.Directory.Port(),
		"TLS 1.3, certificate", "bind as svc-proxy@CORP.EXAMPLE, and the server proved itself",
		"svc-proxy@CORP.EXAMPLE may read the password of svc-web$@CORP.EXAMPLE, which was set now",
		"it changes", "login svc-web$@CORP.EXAMPLE, until", `salt "CORP.EXAMPLEhostsvc-web$"`,
	} {
		if !strings.Contains(words, fact) {
			t.Errorf("%q is not told in\n%s", fact, text)
		}
	}
	other := l.Write("other-ca.pem", caddytest.NewAuthority(t).PEM())
	for name, x := range map[string]struct{ gmsa, remedy, before string }{
		"another CA":      {m.GMSA("server "+m.Server(), "tls_ca "+other), "set tls_ca", "domain controllers of"},
		"nothing there":   {m.GMSA("server ldaps://localhost:1", "tls_ca "+m.CA), "port 636", "domain controllers of"},
		"no such account": {strings.Replace(right, "svc-web$", "svc-none$", 1), "New-ADServiceAccount", "bind as svc-proxy@CORP.EXAMPLE"},
		"no permission":   {right, "Set-ADServiceAccount svc-web$ -PrincipalsAllowedToRetrieveManagedPassword svc-proxy", "bind as svc-proxy@CORP.EXAMPLE"},
	} {
		t.Run(name, func(t *testing.T) {
			if m.Managed.Allow(caddytest.Account); name == "no permission" {
				m.Managed.Allow()
			}
			mine := *l
			mine.T = t
			text, c := mine.check(site(x.gmsa))
			s := mine.wantCauses(c, "FAIL", "directory", diagnosis.CauseManagedPassword)
			if !strings.Contains(s.Remedy, x.remedy) || s.Remedy == "" || !strings.Contains(strings.Join(strings.Fields(text), " "), x.before) {
				t.Errorf("remedy %q in\n%s", s.Remedy, text)
			}
		})
	}
}
