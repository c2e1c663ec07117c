package command_test

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// TestCheck_RealServers breaks set-ups of MIT's KDC and Apache with
// mod_auth_gssapi.
func TestCheck_RealServers(t *testing.T) {
	kdc := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{
		{Name: labAccount, Password: labPassword},
		{Name: "svc-salted", Password: labPassword, Salt: "norealm"},
		{Name: "svc-changed", Password: labPassword},
		{Name: "HTTP/app.lab.test"},
		{Name: "HTTP/old.lab.test"},
	}})
	apache := lab.StartApache(t, lab.ApacheOptions{Realm: kdc, Hosts: []string{"app.lab.test", "old.lab.test"}})
	wrong := lab.StartApache(t, lab.ApacheOptions{Realm: kdc, Hosts: []string{"app.lab.test"}, Skew: -20 * time.Minute})
	l := &commandLab{caddytest.Env{Caddy: caddytest.New(t)}}
	site := func(upstream, spn string, who ...string) string {
		return l.proxy("http://"+upstream, append(who, "kdc "+kdc.KDC(), "spn "+spn, "login_at_start off")...)
	}
	account := func(name, keytab string) []string {
		return []string{"user " + name + "@" + kdc.Name(), "keytab " + keytab}
	}
	good := account(labAccount, kdc.Keytab(t, labAccount))
	run := func(name string, f func(l *commandLab)) {
		t.Run(name, func(t *testing.T) {
			mine := *l
			mine.T = t
			f(&mine)
		})
	}

	run("none", func(l *commandLab) {
		text, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", good...))
		l.wantOK(text, c)
	})
	run("ccache of a collection", func(l *commandLab) {
		dir := l.T.TempDir()
		lab.NewTools(l.T, kdc).In("DIR:"+dir).Kinit(labAccount, labPassword)
		text, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", "ccache DIR:"+dir))
		l.wantOK(text, c)
		if want := "ccache DIR::" + dir + "/tkt of " + labAccount + "@" + kdc.Name(); !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
			l.T.Errorf("the report does not say %q:\n%s", want, text)
		}
	})
	run("ccache without a daemon", func(l *commandLab) {
		x := lab.NewTools(l.T, kdc, "kcm_socket = "+l.Dir+"/none")
		text, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", "ccache KCM:", "krb5_conf "+x.Krb5Conf()))
		l.wantCauses(c, "FAIL", "files", diagnosis.CauseAccount)
		if want := "KCM daemon at " + l.Dir + "/none"; !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
			l.T.Errorf("the report does not say %q:\n%s", want, text)
		}
	})
	run("wrong password", func(l *commandLab) {
		_, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", "user "+labAccount+"@"+kdc.Name(), "password_file "+l.Write("wrong", []byte("wrong"))))
		l.wantCauses(c, "FAIL", "login", diagnosis.CauseWrongPassword)
	})
	run("old keytab", func(l *commandLab) {
		path := kdc.Keytab(l.T, "svc-changed")
		kdc.Kadmin(l.T, "cpw -randkey svc-changed")
		_, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", account("svc-changed", path)...))
		l.wantCauses(c, "FAIL", "login", diagnosis.CauseKeytabVersion, diagnosis.CauseKeytabSalt, diagnosis.CauseWrongPassword)
	})
	run("wrong salt", func(l *commandLab) {
		path := l.Dir + "/salt.keytab"
		add := []string{"keytab", "add", path, "--principal", "svc-salted@" + kdc.Name(), "--kvno", "1", "--password-file", l.Write("right", []byte(labPassword))}
		if _, err := caddyKerberos(l.T, add...); err != nil {
			l.T.Fatal(err)
		}
		_, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", account("svc-salted", path)...))
		s := l.wantCauses(c, "FAIL", "login", diagnosis.CauseKeytabVersion, diagnosis.CauseKeytabSalt, diagnosis.CauseWrongPassword)
		if !strings.Contains(s.Remedy, `--salt "svc-salted"`) {
			l.T.Errorf("remedy %q", s.Remedy)
		}
		if _, err := caddyKerberos(l.T, append(add, "--salt", "svc-salted")...); err != nil {
			l.T.Fatal(err)
		}
		text, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", account("svc-salted", path)...))
		l.wantOK(text, c)
	})
	run("unknown service", func(l *commandLab) {
		_, c := l.check(site(apache.Addr(), "HTTP/nowhere.lab.test", good...))
		l.wantCauses(c, "FAIL", "ticket", diagnosis.CauseUnknownSPN)
	})
	run("the upstream's clock", func(l *commandLab) {
		_, c := l.check(site(wrong.Addr(), "HTTP/app.lab.test", good...))
		l.wantCauses(c, "FAIL", "upstream", diagnosis.CauseClock)
	})
	run("the upstream's key", func(l *commandLab) {
		kdc.Kadmin(l.T, "cpw -randkey HTTP/old.lab.test")
		_, c := l.check(site(apache.Addr(), "HTTP/old.lab.test", good...))
		l.wantCauses(c, "FAIL", "upstream", diagnosis.CauseSPNOnOtherAccount, diagnosis.CauseServiceKeyChanged)
	})
	run("a user who may not enter", func(l *commandLab) {
		_, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", good...), "--url", "/denied/")
		l.wantCauses(c, "warn", "upstream", diagnosis.CauseUserMayNotEnter)
	})
	run("the KDC is dead", func(l *commandLab) {
		kdc.Stop()
		_, c := l.check(site(apache.Addr(), "HTTP/app.lab.test", good...))
		l.wantCauses(c, "FAIL", "reachability", diagnosis.CauseKDCDead)
	})
}
