package lab_test

import (
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

func TestSambaLogin(t *testing.T) {
	s := lab.SharedSamba(t)
	x := lab.NewTools(t, s)
	x.Kinit("alice", "alice-secret")
	x.KinitKeytab("svc-proxy", s.Keytab(t, "svc-proxy"))
	x.Kvno("HTTP/iis.corp.test", "HTTP/legacy.corp.test")
	list := x.Klist()
	if !strings.Contains(list, "Default principal: svc-proxy@CORP.TEST") {
		t.Error(list)
	}
	if _, legacy, _ := strings.Cut(list, "HTTP/legacy.corp.test"); !strings.Contains(legacy, "aes256-cts-hmac-sha1-96, DEPRECATED:arcfour-hmac") {
		t.Errorf("no AES session key with an RC4 ticket:\n%s", list)
	}
	x.Kinit("erin.smith@corp.test", "erin-secret", "-E")
	x.Kinit("frank@mail.example", "frank-secret", "-E")
}

func TestSambaAccounts(t *testing.T) {
	x := lab.NewTools(t, lab.SharedSamba(t))
	for name, want := range map[string]string{
		"locked": "revoked", "expired": "expired", "mustchange": "Password expired", "nobody": "not found in Kerberos database",
	} {
		if _, err := x.Try(name+"-secret\n", "kinit", name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestSambaDelegation(t *testing.T) {
	s := lab.SharedSamba(t)
	x := lab.NewTools(t, s)
	x.KinitKeytab("svc-proxy", s.Keytab(t, "svc-proxy"))
	asUser := func(user, service string) error {
		_, err := x.Try("", "kvno", "-U", user, "-P", service)
		return err
	}
	if err := asUser("alice", "HTTP/iis.corp.test"); err != nil {
		t.Error(err)
	}
	if err := asUser("alice", "HTTP/plain.corp.test"); err == nil {
		t.Error("svc-proxy may impersonate to anyone")
	}
	if err := asUser("carol", "HTTP/iis.corp.test"); err == nil {
		t.Error("a sensitive account was impersonated")
	}
}

func TestSambaManyGroups(t *testing.T) {
	s := lab.SharedSamba(t)
	a := lab.StartApache(t, lab.ApacheOptions{Realm: s, Hosts: []string{"iis.corp.test"}})
	x := lab.NewTools(t, s)
	x.Kinit("fat", "fat-secret")
	head, _ := x.Negotiate(a, "", "/")
	if !strings.HasPrefix(head, "HTTP/1.1 200") || !strings.Contains(head, "X-Remote-User: fat@CORP.TEST") {
		t.Error(head)
	}
	if token := a.Accesses(t, 1)[0].Authorization; len(token) < 8000 {
		t.Errorf("the token of 600 groups has %d bytes", len(token))
	}
}

func TestSambaTool(t *testing.T) {
	s := lab.SharedSamba(t)
	s.Tool(t, "user", "add", "grace", "grace-secret")
	lab.NewTools(t, s).Kinit("grace", "grace-secret")
}
