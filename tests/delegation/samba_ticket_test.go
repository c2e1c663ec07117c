package delegation

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// runSignedIn has users of the domain sign in to an account and proxies to Apache as them.
func (d *domain) runSignedIn(account, own, target string) {
	d.T.Helper()
	credentials := []string{"kdc " + d.samba.KDC(), "user " + account + "@CORP.TEST", "keytab " + d.samba.Keytab(d.T, account)}
	load(&d.Caddy, caddytest.Block("kerberos", caddytest.Block("identity intranet", credentials...)),
		caddytest.Block(signIn, "spn "+own),
		caddytest.Block("reverse_proxy "+d.apache.Addr(), caddytest.Block("transport negotiate intranet", target, byTicket)))
}

// address is a KDC's.
type address string

func (a address) Addr() string { return string(a) }

// user is a user of the domain with a ticket for a service.
func (d *domain) user(name, spn string) *caddytest.User {
	d.T.Helper()
	return caddytest.NewUser(d.T, address(d.samba.KDC()), name+"@CORP.TEST", name+"-secret", spn)
}

const (
	kcdSPN   = "HTTP/kcd.corp.test"
	plainSPN = "HTTP/plain.corp.test"
)

// curl asks as the user of a credential cache for a path of the host that the SPN names, and returns
// status, word and body.
func (d *domain) curl(tools *lab.Tools, spn, path string) (status, word, body string) {
	d.T.Helper()
	host, port := strings.TrimPrefix(spn, "HTTP/"), caddytest.Port(d.Addr)
	out := tools.Run("", "curl", "-sS", "-i", "--max-time", "20", "--negotiate", "-u", ":",
		"--resolve", host+":"+port+":127.0.0.1", "http://"+host+":"+port+path)
	for {
		head, rest, _ := strings.Cut(out, "\r\n\r\n")
		if !strings.HasPrefix(rest, "HTTP/") {
			status, _, _ = strings.Cut(strings.TrimPrefix(head, "HTTP/1.1 "), " ")
			for line := range strings.SplitSeq(head, "\r\n") {
				if name, value, _ := strings.Cut(line, ": "); strings.EqualFold(name, "X-Error") {
					word = value
				}
			}
			return status, word, rest
		}
		out = rest
	}
}

// The proxy's account has constrained delegation without protocol transition: it can impersonate
// those who have shown their ticket, and no one else.
func TestSamba_ClientTickets(t *testing.T) {
	lab.Require(t, lab.Krb5User, lab.Curl)
	d := newDomain(t)
	d.runSignedIn("svc-kcd", kcdSPN, iisSPN)
	people := make(map[string]*lab.Tools)
	for _, name := range []string{"alice", "bob", "carol"} {
		people[name] = lab.NewTools(t, d.samba)
		people[name].Kinit(name, name+"-secret", "-f")
	}
	for _, name := range []string{"alice", "bob", "alice", "bob"} {
		status, word, body := d.curl(people[name], kcdSPN, "/echo")
		if got := lab.ParseEcho([]byte(body))["REMOTE_USER"]; status != "200" || got != name+"@CORP.TEST" {
			t.Errorf("%s: %s %s, seen as %q", name, status, word, got)
		}
	}
	// Who is marked sensitive signs in, and is not delegated.
	if status, word, _ := d.curl(people["carol"], kcdSPN, "/echo"); status != "403" || word != "delegation_refused" {
		t.Errorf("a sensitive user: %s %s", status, word)
	}
	if !d.Log.Contains("AccountNotDelegated") {
		t.Errorf("no remedy in the log:\n%s", d.Log)
	}
	// A client that does not ask for a forwardable ticket has none either.
	plain := lab.NewTools(t, d.samba)
	plain.Kinit("bob", "bob-secret", "-F")
	if status, word, body := d.curl(plain, kcdSPN, "/echo"); status != "403" || word != "delegation_refused" {
		t.Errorf("a ticket that is not forwardable: %s %s %s", status, word, body)
	}
	// By a name alone the same account impersonates no one.
	d.run("svc-kcd", iisSPN, byHeader)
	d.Get("/echo", asUser("alice")).WantError(t, http.StatusForbidden, "delegation_refused", "13")
}

func TestSamba_ClientTicketRefused(t *testing.T) {
	d := newDomain(t)
	alice := func(spn string) func(*http.Request) {
		return d.user("alice", spn).SignIn
	}
	d.runSignedIn("svc-plain", plainSPN, iisSPN)
	d.Get("/echo", alice(plainSPN)).WantError(t, http.StatusForbidden, "delegation_refused", "13")
	if !d.Log.Contains("Set-ADUser svc-plain -Add @{'msDS-AllowedToDelegateTo'='HTTP/iis.corp.test'}") {
		t.Errorf("no remedy in the log:\n%s", d.Log)
	}
	d.runSignedIn("svc-kcd", kcdSPN, "spn HTTP/legacy.corp.test")
	d.Get("/echo", alice(kcdSPN)).WantError(t, http.StatusForbidden, "delegation_refused", "13")
}

// Many users at once, and in disorder: no user is taken for another.
func TestSamba_ClientTicketsInterleaved(t *testing.T) {
	const width = 32
	d := newDomain(t)
	names := []string{"alice", "bob", "erin"}
	for i := len(names); i < caddytest.Long(len(names), 50); i++ {
		name := fmt.Sprintf("person%02d", i)
		d.samba.Tool(t, "user", "create", name, name+"-secret")
		names = append(names, name)
	}
	people := make([]*caddytest.User, len(names))
	for i, name := range names {
		people[i] = d.user(name, kcdSPN)
	}
	d.runSignedIn("svc-kcd", kcdSPN, iisSPN)
	client := d.Client()
	n := caddytest.Long(500, 10_000)
	caddytest.All(t, n, width, func(i int) error {
		who := i * 7 % len(names)
		a, err := caddytest.Ask(client, d.Request(http.MethodGet, "/bound/", people[who].SignIn))
		if err == nil && (a.Status != http.StatusOK || a.Header.Get("X-Remote-User") != names[who]+"@CORP.TEST") {
			err = fmt.Errorf("%s: %v as %s", names[who], a, a.Header.Get("X-Remote-User"))
		}
		return err
	})
	t.Logf("%d requests of %d users, %d at a time: each was seen as themselves", n, len(names), width)
}
