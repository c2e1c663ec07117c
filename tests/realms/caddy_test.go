package realms

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-negotiate/caddy-negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// newSite runs Caddy with the lines in a negotiate block, in front of an upstream with
// the keytab.
func newSite(t *testing.T, keytabPath string, block ...string) *caddytest.Caddy {
	t.Helper()
	return newSiteAt(t, 0, keytabPath, block...)
}

// newSiteAt is newSite with an upstream whose clock is wrong.
func newSiteAt(t *testing.T, skew time.Duration, keytabPath string, block ...string) *caddytest.Caddy {
	t.Helper()
	_, upstream := caddytest.StartUpstream(t, kdctest.AcceptorConfig{
		Keytab: []byte(caddytest.ReadFile(t, keytabPath)), Now: func() time.Time { return time.Now().Add(skew) },
	}, kdctest.UpstreamConfig{})
	c := caddytest.New(t)
	caddytest.Load(t, c.Global("DEBUG")+caddytest.Site(c.Addr, caddytest.Block("negotiate", block...), "reverse_proxy "+upstream.Addr()))
	return &c
}

func TestCaddy_CCache(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret")
	s := newSite(t, m.Keytab(t, "HTTP/app.lab.test"),
		"ccache FILE:"+x.CCache(), "krb5_conf "+m.Krb5Conf(), "spn HTTP/app.lab.test")
	s.Get("/").WantUser(t, "alice@LAB.TEST")
	if n := m.Logins(t, "alice@LAB.TEST"); n != 1 {
		t.Errorf("%d logins, want kinit's alone", n)
	}
}

func TestCaddy_UPN(t *testing.T) {
	samba := lab.SharedSamba(t)
	for user, want := range map[string]string{
		"user frank@mail.example\nrealm CORP.TEST\npassword frank-secret": "frank@CORP.TEST",
		// A plain name, which the KDC corrects unless it is told not to.
		"user erin.smith@corp.test\npassword erin-secret":                   "erin@CORP.TEST",
		"user erin.smith@corp.test\npassword erin-secret\ncanonicalize off": "erin.smith@CORP.TEST",
		"user CORP.TEST\\alice\npassword alice-secret":                      "alice@CORP.TEST",
	} {
		lines := append(strings.Split(user, "\n"), "krb5_conf "+samba.Krb5Conf(), "spn HTTP/iis.corp.test")
		s := newSite(t, samba.Keytab(t, "HTTP/iis.corp.test"), lines...)
		s.Get("/").WantUser(t, want)
	}
}

func TestCaddy_WrongSaltExplained(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{
		{Name: "salted", Password: "secret", Salt: "norealm"}, {Name: "HTTP/app.lab.test"},
	}})
	content, err := saltedKeytab(t, "salted@LAB.TEST", "secret", "LAB.TESTsalted").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, m.Keytab(t, "HTTP/app.lab.test"),
		"user salted@LAB.TEST", "keytab "+write(t, "keytab", content), "krb5_conf "+m.Krb5Conf(), "spn HTTP/app.lab.test")
	for range 3 {
		s.Get("/").WantError(t, 502, "credentials_refused", "24")
	}
	if log := s.Log.String(); !strings.Contains(log, `"salt":"salted"`) || !strings.Contains(log, `the KDC's salt is`) {
		t.Errorf("the log does not name the salt:\n%s", log)
	}
	if n := m.Count(t, lab.Exchange{Status: "PREAUTH_FAILED"}); n > 2 {
		t.Errorf("the key was proved %d times", n)
	}
}

func TestCaddy_DisabledAccountExplained(t *testing.T) {
	samba := lab.SharedSamba(t)
	s := newSite(t, samba.Keytab(t, "HTTP/iis.corp.test"),
		"user locked@CORP.TEST", "password locked-secret", "krb5_conf "+samba.Krb5Conf(), "spn HTTP/iis.corp.test")
	s.Get("/").WantError(t, 502, "credentials_refused", "18")
	if log := s.Log.String(); !strings.Contains(log, `"nt_status":"STATUS_ACCOUNT_DISABLED"`) || !strings.Contains(log, "Enable-ADAccount") {
		t.Errorf("the log does not say why:\n%s", log)
	}
}

func TestCaddy_Krb5ConfAndTrace(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}, {Name: "HTTP/app.lab.test"}}})
	conf := strings.Replace(caddytest.ReadFile(t, m.Krb5Conf()), "[libdefaults]\n",
		"[libdefaults]\n udp_preference_limit = 1\n ticket_lifetime = 20m\n permitted_enctypes = aes128-cts\n", 1)
	packets := filepath.Join(t.TempDir(), "packets")
	s := newSite(t, m.Keytab(t, "HTTP/app.lab.test"), "user alice@LAB.TEST", "password alice-secret",
		"krb5_conf "+write(t, "krb5.conf", []byte(conf)), "spn HTTP/app.lab.test", "trace packets "+packets)
	s.Get("/").WantUser(t, "alice@LAB.TEST")
	log := s.Log.String()
	for _, want := range []string{
		`"msg":"kdc message sent"`, `"kind":"KRB_AS_REQ"`, `"kind":"KRB_TGS_REP"`, `"protocol":"tcp"`, `"etypes":"aes128-cts-hmac-sha1-96"`,
		`"krb_error":"KDC_ERR_PREAUTH_REQUIRED (25)"`, `"msg":"kdc exchange"`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in the log", want)
		}
	}
	if strings.Contains(log, `"protocol":"udp"`) {
		t.Error("UDP, though udp_preference_limit is 1")
	}
	for _, x := range m.Log(t) {
		if x.Status == "ISSUE" && !strings.HasPrefix(x.Ses, "aes128-cts-hmac-sha1-96") {
			t.Errorf("a session key of type %s", x.Ses)
		}
	}
	if info, err := os.Stat(packets); err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 {
		t.Errorf("%v, %v", info, err)
	}
}

// KDC and upstream agree on the time, and we do not: their time is in the first token already.
func TestCaddy_RealmClock(t *testing.T) {
	const skew = -10 * time.Minute
	m := lab.StartMIT(t, lab.MITOptions{Skew: skew, Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}, {Name: "HTTP/app.lab.test"}}})
	s := newSiteAt(t, skew, m.Keytab(t, "HTTP/app.lab.test"),
		"user alice@LAB.TEST", "password alice-secret", "kdc "+m.KDC(), "spn HTTP/app.lab.test")
	s.Get("/").WantUser(t, "alice@LAB.TEST")
	if s.Log.Contains("KRB_AP_ERR_SKEW") {
		t.Error("the upstream had to say what time it is")
	}
}
