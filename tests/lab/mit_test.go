package lab_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

func TestMITLogCounts(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{
		{Name: "alice", Password: "alice-secret"},
		{Name: "HTTP/app.lab.test"},
	}})
	x := lab.NewTools(t, m)
	x.Kinit("alice", "alice-secret")
	x.Kvno("HTTP/app.lab.test", "HTTP/app.lab.test")
	if n := m.Logins(t, "alice@LAB.TEST"); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	if n := m.Tickets(t, "HTTP/app.lab.test@LAB.TEST"); n != 1 {
		t.Errorf("%d service tickets, want 1", n)
	}
	if n := m.Count(t, lab.Exchange{Kind: "AS_REQ", Status: "NEEDED_PREAUTH"}); n != 1 {
		t.Errorf("%d AS-REQs without proof, want 1", n)
	}

	if out, err := x.Try("wrong\n", "kinit", "alice"); err == nil {
		t.Errorf("a wrong password was accepted: %s", out)
	}
	if n := m.Count(t, lab.Exchange{Status: "PREAUTH_FAILED", Client: "alice@LAB.TEST"}); n != 1 {
		t.Errorf("%d refused passwords, want 1", n)
	}
	if _, err := x.Try("", "kvno", "HTTP/none.lab.test"); err == nil {
		t.Error("a ticket for an unknown service")
	}
	if n := m.Count(t, lab.Exchange{
		Kind: "TGS_REQ", Status: "LOOKING_UP_SERVER", Service: "HTTP/none.lab.test@LAB.TEST",
		Error: "Server not found in Kerberos database",
	}); n == 0 {
		t.Error("no request for the unknown service in the log")
	}
	if n := m.Logins(t, "alice@LAB.TEST"); n != 1 {
		t.Errorf("%d logins after a refused one, want 1", n)
	}
}

func TestMITETypes(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{
		{Name: "sha2", Password: "sha2-secret", ETypes: []string{"aes128-cts-hmac-sha256-128"}},
		{Name: "HTTP/rc4.lab.test", ETypes: []string{"arcfour-hmac"}},
	}})
	x := lab.NewTools(t, m)
	x.KinitKeytab("sha2", m.Keytab(t, "sha2"))
	x.Kvno("HTTP/rc4.lab.test")
	log := m.Log(t)
	login, service := log[len(log)-2], log[len(log)-1]
	if login.Rep != "aes128-cts-hmac-sha256-128(19)" {
		t.Errorf("the login's reply key is %s", login.Rep)
	}
	if !strings.Contains(service.Tkt, "arcfour-hmac(23)") || service.Ses == service.Tkt {
		t.Errorf("the service ticket is %s with a session key %s", service.Tkt, service.Ses)
	}
}

func TestMITAccounts(t *testing.T) {
	past := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	m := lab.StartMIT(t, lab.MITOptions{
		Policies: []string{"-maxfailure 1 -failurecountinterval 300 -lockoutduration 300 lockout"},
		Principals: []lab.Principal{
			{Name: "expired", Password: "secret", Expires: past},
			{Name: "stale", Password: "secret", PasswordExpires: past},
			{Name: "disabled", Password: "secret", Flags: []string{"-allow_tix"}},
			{Name: "lockme", Password: "secret", Policy: "lockout"},
			{Name: "short", Password: "secret", MaxLife: 10 * time.Second},
			{Name: "salted", Password: "secret", Salt: "norealm"},
		},
	})
	x := lab.NewTools(t, m)
	for name, want := range map[string]string{
		"expired": "Client's entry in database has expired", "stale": "Password expired",
		"disabled": "credentials have been revoked", "nobody": "not found in Kerberos database",
	} {
		if _, err := x.Try("secret\n", "kinit", name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	x.Try("wrong\n", "kinit", "lockme")
	if _, err := x.Try("secret\n", "kinit", "lockme"); err == nil || !strings.Contains(err.Error(), "credentials have been revoked") {
		t.Errorf("lockme: %v", err)
	}
	x.Kinit("salted", "secret")
	x.Kinit("short", "secret")
	if trace := x.Trace(); !strings.Contains(trace, `salt "salted"`) {
		t.Errorf("no salt without a realm:\n%s", trace)
	}
	if out := m.Kadmin(t, "getprinc short"); !strings.Contains(out, "Maximum ticket life: 0 days 00:00:10") {
		t.Errorf("short's tickets live longer: %s", out)
	}
}

func TestMITTrust(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}}})
	far := lab.StartMIT(t, lab.MITOptions{Realm: "REMOTE.TEST", Principals: []lab.Principal{{Name: "HTTP/far.remote.test"}}})
	m.Trust(t, far)
	x := lab.NewTools(t, m)
	x.Kinit("alice", "alice-secret")
	// host-based without a realm: the KDC must refer
	x.Run("", "kvno", "-S", "HTTP", "far.remote.test")
	if n := m.Tickets(t, "krbtgt/REMOTE.TEST@LAB.TEST"); n != 1 {
		t.Errorf("%d referrals, want 1", n)
	}
	if n := far.Count(t, lab.Exchange{Client: "alice@LAB.TEST", Service: "HTTP/far.remote.test@REMOTE.TEST", Status: "ISSUE"}); n != 1 {
		t.Errorf("%d tickets of the other realm, want 1", n)
	}
}

func TestMITSkew(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Skew: 10 * time.Minute, Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}}})
	x := lab.NewTools(t, m)
	if _, err := x.Try("alice-secret\n", "kinit", "alice"); err == nil || !strings.Contains(err.Error(), "Clock skew too great") {
		t.Errorf("kinit: %v", err)
	}
}

func TestMITMaxDatagram(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{MaxDatagram: 300, Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}}})
	x := lab.NewTools(t, m)
	x.Kinit("alice", "alice-secret")
	if trace := x.Trace(); !strings.Contains(trace, "TCP") {
		t.Errorf("no TCP in\n%s", trace)
	}
}

func TestMITRestart(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}}})
	x := lab.NewTools(t, m, "udp_preference_limit = 1")
	m.Stop()
	if _, err := x.Try("alice-secret\n", "kinit", "alice"); err == nil || !strings.Contains(err.Error(), "Cannot contact any KDC") {
		t.Errorf("kinit of a stopped KDC: %v", err)
	}
	m.Start(t)
	m.Pause()
	m.Resume()
	x.Kinit("alice", "alice-secret")
	if _, err := os.Stat(x.CCache()); err != nil {
		t.Error(err)
	}
}
