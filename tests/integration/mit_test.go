package integration

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

const labPrincipal = "svc-proxy@LAB.TEST"

// newLabSite is a site whose KDC and upstream are MIT's krb5kdc and Apache.
func newLabSite(t *testing.T, user, web lab.Principal) (*site, *lab.MIT, *lab.Apache) {
	t.Helper()
	lab.Require(t, lab.KDC, lab.HTTPD)
	user.Name, user.Password, web.Name = account, password, "HTTP/app.lab.test"
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{user, web}})
	a := lab.StartApache(t, lab.ApacheOptions{Realm: m})
	s := &site{Env: caddytest.Env{Caddy: caddytest.New(t)}, target: a.Addr()}
	s.Keytab = m.Keytab(t, account)
	return s, m, a
}

func TestApache_ManyRequestsOneTicket(t *testing.T) {
	t.Setenv("PROXY_PASSWORD", password)
	const byPassword = "password {env.PROXY_PASSWORD}"
	sha2 := []string{"aes256-cts-hmac-sha384-192", "aes128-cts-hmac-sha256-128"}
	type row struct {
		name   string
		etypes []string // of user and service
		lines  []string // keytab if it says nothing of a password
		rep    string   // the type that the KDC's log must name, if any
	}
	rows := []row{
		{name: "keytab"},
		{name: "password", lines: []string{byPassword}},
		{name: "use_tcp", lines: []string{"use_tcp"}},
		{name: "SHA-2 keys only", etypes: sha2, rep: "aes256-cts-hmac-sha384-192(20)"},
		{name: "SHA-2 keys only, password", etypes: sha2, lines: []string{byPassword}, rep: "aes256-cts-hmac-sha384-192(20)"},
	}
	for name, number := range map[string]string{
		"aes256-cts-hmac-sha1-96": "(18)", "aes128-cts-hmac-sha1-96": "(17)",
		"aes256-cts-hmac-sha384-192": "(20)", "aes128-cts-hmac-sha256-128": "(19)",
	} {
		rows = append(rows, row{name: name, etypes: []string{name}, lines: []string{"encryption_types " + name}, rep: name + number})
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s, m, a := newLabSite(t, lab.Principal{ETypes: row.etypes}, lab.Principal{ETypes: row.etypes})
			block := []string{"kdc " + m.KDC(), "user " + labPrincipal, "spn " + a.SPN()}
			if len(row.lines) == 0 || row.lines[0] != byPassword {
				block = append(block, "keytab "+s.Keytab)
			}
			s.load(caddytest.Lines(append(block, row.lines...)...))
			s.GetMany(manyRequests, 16, "/", func(a caddytest.Answer) bool {
				return a.Status == http.StatusOK && a.Header.Get("X-Remote-User") == labPrincipal && a.Header.Get("Www-Authenticate") == ""
			})
			if n := m.Logins(t, labPrincipal); n != 1 {
				t.Errorf("%d logins in the KDC's log, want 1", n)
			}
			if n := m.Tickets(t, a.SPN()+"@"+m.Name()); n != 1 {
				t.Errorf("%d service tickets in the KDC's log, want 1", n)
			}
			if n := a.Replays(t); n != 0 {
				t.Errorf("%d replays in Apache's log", n)
			}
			if row.rep != "" && m.Count(t, lab.Exchange{Kind: "TGS_REQ", Status: "ISSUE", Tkt: row.rep}) != 1 {
				t.Errorf("no ticket of %s: %+v", row.rep, m.Log(t))
			}
		})
	}
}

func TestApache_MutualAuth(t *testing.T) {
	s, m, a := newLabSite(t, lab.Principal{}, lab.Principal{})
	s.load(caddytest.Lines("kdc "+m.KDC(), "user "+labPrincipal, "keytab "+s.Keytab, "spn "+a.SPN(), "mutual_auth required"))
	got := s.Get("/")
	if got.Status != http.StatusOK || got.Header.Get("X-Remote-User") != labPrincipal {
		t.Fatalf("status %d, %q", got.Status, got.Body)
	}
	wantNoChallenge(t, got)
	if got = s.Get("/forbidden/"); got.Status != http.StatusForbidden {
		t.Errorf("/forbidden/: status %d", got.Status)
	}
	// 401 for a good user who may not enter: passed on, and no new ticket.
	for range 3 {
		got = s.Get("/denied/")
		if got.Status != http.StatusUnauthorized {
			t.Errorf("/denied/: status %d", got.Status)
		}
		wantNoChallenge(t, got)
	}
	if n := m.Logins(t, labPrincipal); n != 1 {
		t.Errorf("%d logins", n)
	}
	if n := m.Tickets(t, a.SPN()+"@"+m.Name()); n != 1 {
		t.Errorf("%d service tickets, want 1", n)
	}
}

func TestApache_ChangedKey(t *testing.T) {
	s, m, a := newLabSite(t, lab.Principal{}, lab.Principal{})
	s.load(caddytest.Lines("kdc "+m.KDC(), "user "+labPrincipal, "keytab "+s.Keytab, "spn "+a.SPN()))
	if got := s.Get("/"); got.Status != http.StatusOK {
		t.Fatalf("status %d", got.Status)
	}
	m.Kadmin(t, "cpw -randkey HTTP/app.lab.test")
	a.ReloadKeytab(t)
	if got := s.Get("/"); got.Status != http.StatusOK || got.Header.Get("X-Remote-User") != labPrincipal {
		t.Fatalf("status %d, %q", got.Status, got.Body)
	}
	if n := m.Tickets(t, a.SPN()+"@"+m.Name()); n != 2 {
		t.Errorf("%d service tickets, want 2", n)
	}
	if n := m.Logins(t, labPrincipal); n != 1 {
		t.Errorf("%d logins", n)
	}
}

// MIT's acceptor tells why it refuses only if it was asked to prove itself.
func TestApache_ClockSkew(t *testing.T) {
	lab.Require(t, lab.KDC, lab.HTTPD, lab.Faketime)
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: account, Password: password}, {Name: "HTTP/app.lab.test"}}})
	a := lab.StartApache(t, lab.ApacheOptions{Realm: m, Skew: 10 * time.Minute})
	s := &site{Env: caddytest.Env{Caddy: caddytest.New(t), Keytab: m.Keytab(t, account)}, target: a.Addr()}
	s.load(caddytest.Lines("kdc "+m.KDC(), "user "+labPrincipal, "keytab "+s.Keytab, "spn "+a.SPN(), "mutual_auth required"))
	for range 2 {
		if got := s.Get("/"); got.Status != http.StatusOK || got.Header.Get("X-Remote-User") != labPrincipal {
			t.Fatalf("status %d, %q", got.Status, got.Body)
		}
	}
	if n := m.Tickets(t, a.SPN()+"@"+m.Name()); n != 1 {
		t.Errorf("%d service tickets, want 1", n)
	}
	s.Log.Await(t, `KRB_AP_ERR_SKEW`, 1)
}
