package realms

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-negotiate/caddy-negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// site is Caddy between us and an upstream that accepts tickets of a real realm.
type site struct {
	t       *testing.T
	address string
	log     string
}

// newSite runs Caddy with the lines in a negotiate block, in front of an upstream
// with the keytab.
func newSite(t *testing.T, keytabPath string, block ...string) *site {
	t.Helper()
	return newSiteAt(t, 0, keytabPath, block...)
}

// newSiteAt is newSite with an upstream whose clock is wrong.
func newSiteAt(t *testing.T, skew time.Duration, keytabPath string, block ...string) *site {
	t.Helper()
	content, err := os.ReadFile(keytabPath)
	if err != nil {
		t.Fatal(err)
	}
	acceptor, err := kdctest.NewAcceptor(kdctest.AcceptorConfig{
		Keytab: content, Now: func() time.Time { return time.Now().Add(skew) },
	})
	if err != nil {
		t.Fatal(err)
	}
	upstream := kdctest.NewUpstream(kdctest.UpstreamConfig{Acceptor: acceptor})
	if err := upstream.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(upstream.Stop)
	s := &site{t: t, address: unused(t), log: filepath.Join(t.TempDir(), "log")}
	_, port, _ := net.SplitHostPort(s.address)
	text := fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system %s
	log {
		output file %s
		format json
		level DEBUG
	}
}
http://:%s {
	bind 127.0.0.1
	negotiate {
		%s
	}
	reverse_proxy %s
	handle_errors {
		respond "{err.status_code} {http.negotiate.error} {http.negotiate.error.code}"
	}
}
`, t.TempDir(), s.log, port, strings.Join(block, "\n\t\t"), upstream.Addr())
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	if err := caddy.Load(adapted, true); err != nil {
		t.Fatal(err)
	}
	return s
}

// get answers what the upstream, or Caddy, says.
func (s *site) get() string {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + s.address + "/")
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(body))
}

// logged is Caddy's log so far.
func (s *site) logged() string {
	s.t.Helper()
	text, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

func TestCaddyUsesTheCCacheOfKinit(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret")
	s := newSite(t, m.Keytab(t, "HTTP/app.lab.test"),
		"ccache FILE:"+x.CCache(), "krb5_conf "+m.Krb5Conf(), "spn HTTP/app.lab.test")
	if got := s.get(); got != "alice@LAB.TEST" {
		t.Errorf("the upstream saw %q\n%s", got, s.logged())
	}
	if n := m.Logins(t, "alice@LAB.TEST"); n != 1 {
		t.Errorf("%d logins, want kinit's alone", n)
	}
}

func TestCaddyLogsInByUPN(t *testing.T) {
	samba := lab.SharedSamba(t)
	for user, want := range map[string]string{
		"user frank@mail.example\nrealm CORP.TEST\npassword frank-secret": "frank@CORP.TEST",
		"user erin.smith@corp.test\npassword erin-secret":                 "erin.smith@CORP.TEST", // a plain name, which nobody was asked to correct
		"user CORP.TEST\\alice\npassword alice-secret":                    "alice@CORP.TEST",
	} {
		lines := append(strings.Split(user, "\n"), "krb5_conf "+samba.Krb5Conf(), "spn HTTP/iis.corp.test")
		s := newSite(t, samba.Keytab(t, "HTTP/iis.corp.test"), lines...)
		if got := s.get(); got != want {
			t.Errorf("%q: the upstream saw %q, want %s", user, got, want)
		}
	}
}

func TestCaddyExplainsAKeytabOfTheWrongSalt(t *testing.T) {
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
		if got := s.get(); got != "502 credentials_refused 24" {
			t.Errorf("answered %q", got)
		}
	}
	if log := s.logged(); !strings.Contains(log, `"salt":"salted"`) || !strings.Contains(log, `the KDC salts with`) {
		t.Errorf("the log does not name the salt:\n%s", log)
	}
	if n := m.Count(t, lab.Exchange{Status: "PREAUTH_FAILED"}); n > 2 {
		t.Errorf("the key was proved %d times", n)
	}
}

func TestCaddyExplainsADisabledAccount(t *testing.T) {
	samba := lab.SharedSamba(t)
	s := newSite(t, samba.Keytab(t, "HTTP/iis.corp.test"),
		"user locked@CORP.TEST", "password locked-secret", "krb5_conf "+samba.Krb5Conf(), "spn HTTP/iis.corp.test")
	if got := s.get(); got != "502 credentials_refused 18" {
		t.Errorf("answered %q", got)
	}
	if log := s.logged(); !strings.Contains(log, `"nt_status":"STATUS_ACCOUNT_DISABLED"`) || !strings.Contains(log, "Enable-ADAccount") {
		t.Errorf("the log does not say why:\n%s", log)
	}
}

func TestCaddyHeedsKrb5ConfAndTraces(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}, {Name: "HTTP/app.lab.test"}}})
	original, err := os.ReadFile(m.Krb5Conf())
	if err != nil {
		t.Fatal(err)
	}
	conf := strings.Replace(string(original), "[libdefaults]\n",
		"[libdefaults]\n udp_preference_limit = 1\n ticket_lifetime = 20m\n permitted_enctypes = aes128-cts\n", 1)
	packets := filepath.Join(t.TempDir(), "packets")
	s := newSite(t, m.Keytab(t, "HTTP/app.lab.test"), "user alice@LAB.TEST", "password alice-secret",
		"krb5_conf "+write(t, "krb5.conf", []byte(conf)), "spn HTTP/app.lab.test", "trace packets "+packets)
	if got := s.get(); got != "alice@LAB.TEST" {
		t.Errorf("the upstream saw %q", got)
	}
	log := s.logged()
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
func TestCaddyTakesTheRealmsTimeForItsTokens(t *testing.T) {
	const skew = -10 * time.Minute
	m := lab.StartMIT(t, lab.MITOptions{Skew: skew, Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}, {Name: "HTTP/app.lab.test"}}})
	s := newSiteAt(t, skew, m.Keytab(t, "HTTP/app.lab.test"),
		"user alice@LAB.TEST", "password alice-secret", "kdc "+m.KDC(), "spn HTTP/app.lab.test")
	if got := s.get(); got != "alice@LAB.TEST" {
		t.Errorf("the upstream saw %q\n%s", got, s.logged())
	}
	if strings.Contains(s.logged(), "KRB_AP_ERR_SKEW") {
		t.Error("the upstream had to say what time it is")
	}
}

func TestCaddyPassesWithRC4TicketsAndManyGroups(t *testing.T) {
	samba := lab.SharedSamba(t)
	for _, x := range []struct{ user, password, spn, want string }{
		{"alice", "alice-secret", "HTTP/legacy.corp.test", "alice@CORP.TEST"},
		{"fat", "fat-secret", "HTTP/iis.corp.test", "fat@CORP.TEST"},
	} {
		s := newSite(t, samba.Keytab(t, x.spn), "user "+x.user+"@CORP.TEST", "password "+x.password, "kdc "+samba.KDC(), "spn "+x.spn)
		if got := s.get(); got != x.want {
			t.Errorf("%s at %s: the upstream saw %q, want %s", x.user, x.spn, got, x.want)
		}
	}
}
