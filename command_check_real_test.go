package caddynegotiate

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// TestCheckNamesTheCauseAtRealServers breaks set-ups of MIT's KDC and Apache with
// mod_auth_gssapi.
func TestCheckNamesTheCauseAtRealServers(t *testing.T) {
	kdc := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{
		{Name: labAccount, Password: labPassword}, {Name: "svc-salted", Password: labPassword, Salt: "norealm"},
		{Name: "svc-changed", Password: labPassword}, {Name: "HTTP/app.lab.test"}, {Name: "HTTP/old.lab.test"},
	}})
	apache := lab.StartApache(t, lab.ApacheOptions{Realm: kdc, Hosts: []string{"app.lab.test", "old.lab.test"}})
	wrong := lab.StartApache(t, lab.ApacheOptions{Realm: kdc, Hosts: []string{"app.lab.test"}, Skew: -20 * time.Minute})
	l := &commandLab{t: t, folder: t.TempDir()}
	site := func(upstream, spn string, who ...string) string {
		lines := append(who, "kdc "+kdc.KDC(), "spn "+spn, "login_at_start off")
		return l.site("reverse_proxy http://" + upstream + " {\n\t\ttransport negotiate {\n\t\t\t" + strings.Join(lines, "\n\t\t\t") + "\n\t\t}\n\t}")
	}
	account := func(name, keytab string) []string {
		return []string{"user " + name + "@" + kdc.Name(), "keytab " + keytab}
	}
	good := account(labAccount, kdc.Keytab(t, labAccount))
	run := func(name string, f func(l *commandLab)) {
		t.Run(name, func(t *testing.T) {
			mine := *l
			mine.t = t
			f(&mine)
		})
	}

	run("none", func(l *commandLab) {
		text, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", good...))
		l.wantSound(text, c)
	})
	run("wrong password", func(l *commandLab) {
		_, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", "user "+labAccount+"@"+kdc.Name(), "password_file "+l.write("wrong", []byte("wrong"))))
		l.wantCauses(c, statusFail, stepLogin, causeWrongPassword)
	})
	run("old keytab", func(l *commandLab) {
		path := kdc.Keytab(l.t, "svc-changed")
		kdc.Kadmin(l.t, "cpw -randkey svc-changed")
		_, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", account("svc-changed", path)...))
		l.wantCauses(c, statusFail, stepLogin, causeKeytabVersion, causeKeytabSalt, causeWrongPassword)
	})
	run("wrong salt", func(l *commandLab) {
		path := l.folder + "/salt.keytab"
		add := []string{"keytab", "add", path, "--principal", "svc-salted@" + kdc.Name(), "--kvno", "1", "--password-file", l.write("right", []byte(labPassword))}
		if _, err := caddyKerberos(l.t, add...); err != nil {
			l.t.Fatal(err)
		}
		_, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", account("svc-salted", path)...))
		s := l.wantCauses(c, statusFail, stepLogin, causeKeytabVersion, causeKeytabSalt, causeWrongPassword)
		if !strings.Contains(s.Remedy, `--salt "svc-salted"`) {
			l.t.Errorf("remedy %q", s.Remedy)
		}
		if _, err := caddyKerberos(l.t, append(add, "--salt", "svc-salted")...); err != nil {
			l.t.Fatal(err)
		}
		text, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", account("svc-salted", path)...))
		l.wantSound(text, c)
	})
	run("unknown service", func(l *commandLab) {
		_, c := l.check(site(apache.Addr(), "HTTP/nowhere.lab.test", good...))
		l.wantCauses(c, statusFail, stepTicket, causeUnknownSPN)
	})
	run("the upstream's clock", func(l *commandLab) {
		_, c := l.check(site(wrong.Addr(), "HTTP/app.lab.test", good...))
		l.wantCauses(c, statusFail, stepUpstream, causeClock)
	})
	run("the upstream's key", func(l *commandLab) {
		kdc.Kadmin(l.t, "cpw -randkey HTTP/old.lab.test")
		_, c := l.check(site(apache.Addr(), "HTTP/old.lab.test", good...))
		l.wantCauses(c, statusFail, stepUpstream, causeOtherAccount, causeServiceKey)
	})
	run("a user who may not enter", func(l *commandLab) {
		_, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", good...), "--url", "/denied/")
		l.wantCauses(c, statusWarn, stepUpstream, causeNotAllowed)
	})
	run("the KDC is dead", func(l *commandLab) {
		kdc.Stop()
		_, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", good...))
		l.wantCauses(c, statusFail, stepReach, causeKDCDead)
	})
}
