package signin

import (
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// curl requests / of a host from Caddy, with the ticket of the tools, and returns all heads and the
// last body.
func curl(t *testing.T, x *lab.Tools, c *caddytest.Caddy, host string) string {
	t.Helper()
	return x.Run("", "curl", "-sS", "-i", "--max-time", "20", "--negotiate", "-u", ":",
		"--resolve", host+":"+caddytest.Port(c.Addr)+":127.0.0.1", "http://"+host+":"+caddytest.Port(c.Addr)+"/")
}

// wantCurl fails unless curl has got the page of a user. It gives up by itself where the proof is
// wrong.
func wantCurl(t *testing.T, out, user string) {
	t.Helper()
	head, body, _ := strings.Cut(out[strings.LastIndex(out, "HTTP/1.1 "):], "\r\n\r\n")
	if !strings.HasPrefix(head, "HTTP/1.1 200 ") || !strings.Contains(strings.ToLower(head), "\nwww-authenticate: negotiate ") || !strings.HasPrefix(body, user+" ") {
		t.Errorf("curl as %s:\n%s", user, out)
	}
}

func TestCurl_MIT(t *testing.T) {
	lab.Require(t, lab.KDC, lab.Krb5User, lab.Curl)
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{
		{Name: "alice", Password: "alice's"}, {Name: "HTTP/sso.lab.test"},
	}})
	c := caddytest.New(t)
	auth := caddytest.Block("negotiate_auth", "kdc "+m.KDC(), "keytab "+m.Keytab(t, "HTTP/sso.lab.test"))
	caddytest.Load(t, c.Global("DEBUG")+caddytest.Site(c.Addr, auth, who))
	x := lab.NewTools(t, m)
	x.Kinit("alice", "alice's")
	wantCurl(t, curl(t, x, &c, "sso.lab.test"), "alice@LAB.TEST")
	// Without a ticket, and as NTLM.
	bare := lab.NewTools(t, m)
	if out := curl(t, bare, &c, "sso.lab.test"); !strings.Contains(out, "HTTP/1.1 401 ") || strings.Contains(out, "HTTP/1.1 200 ") {
		t.Errorf("without a ticket:\n%s", out)
	}
	out, err := bare.Try("", "curl", "-sS", "-i", "--max-time", "20", "--ntlm", "-u", "alice:alice's", c.URL("/"))
	if err != nil || !strings.Contains(out, "HTTP/1.1 401 ") || strings.Contains(out, "HTTP/1.1 200 ") {
		t.Errorf("NTLM: %v\n%s", err, out)
	}
}

// The keytab has the account's name only, and the service is another of its names.
func TestCurl_Samba(t *testing.T) {
	lab.Require(t, lab.AD, lab.Krb5User, lab.Curl)
	s := lab.SharedSamba(t)
	for name, secret := range map[string]string{
		"keytab":   "keytab " + s.Keytab(t, "svc-kcd"),
		"password": "password kcd-secret",
	} {
		t.Run(name, func(t *testing.T) {
			c := caddytest.New(t)
			auth := caddytest.Block("negotiate_auth", "kdc "+s.KDC(), "user svc-kcd@CORP.TEST", secret, "spn HTTP/kcd.corp.test")
			caddytest.Load(t, c.Global("DEBUG")+caddytest.Site(c.Addr, auth, who))
			for _, user := range []string{"alice", "bob", "fat"} {
				x := lab.NewTools(t, s)
				x.Kinit(user, user+"-secret")
				out := curl(t, x, &c, "kcd.corp.test")
				wantCurl(t, out, user+"@CORP.TEST")
				id := strings.Fields(out[strings.LastIndex(out, "\r\n\r\n"):])
				groups := strings.Split(id[4], ",")
				if !strings.HasPrefix(id[3], "S-1-5-21-") || len(groups) < 2 || user == "fat" && len(groups) < 600 {
					t.Errorf("%s has SID %s and %d groups", user, id[3], len(groups))
				}
			}
		})
	}
	// carol may not be delegated, and dave is a Protected User: both sign in.
	c := caddytest.New(t)
	auth := caddytest.Block("negotiate_auth", "kdc "+s.KDC(), "user svc-kcd@CORP.TEST", "keytab "+s.Keytab(t, "svc-kcd"), "spn HTTP/kcd.corp.test")
	caddytest.Load(t, c.Global("DEBUG")+caddytest.Site(c.Addr, auth, who))
	for _, user := range []string{"carol", "dave"} {
		x := lab.NewTools(t, s)
		x.Kinit(user, user+"-secret")
		wantCurl(t, curl(t, x, &c, "kcd.corp.test"), user+"@CORP.TEST")
	}
}
