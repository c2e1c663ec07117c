package delegation

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// domain is Samba's, with Apache as its web server.
type domain struct {
	caddytest.Caddy
	samba  *lab.Samba
	apache *lab.Apache
}

func newDomain(t *testing.T, hosts ...string) *domain {
	t.Helper()
	lab.Require(t, lab.AD, lab.HTTPD)
	if len(hosts) == 0 {
		hosts = []string{"iis.corp.test"}
	}
	d := &domain{Caddy: caddytest.New(t), samba: lab.SharedSamba(t)}
	d.apache = lab.StartApache(t, lab.ApacheOptions{Realm: d.samba, Hosts: hosts})
	return d
}

// transport impersonates users as an account of the domain.
func (d *domain) transport(account string, more ...string) string {
	return caddytest.Block("transport negotiate", append([]string{
		"kdc " + d.samba.KDC(), "user " + account + "@CORP.TEST", "keytab " + d.samba.Keytab(d.T, account),
	}, more...)...)
}

func (d *domain) run(account string, more ...string) {
	d.T.Helper()
	load(&d.Caddy, "", caddytest.Block("reverse_proxy "+d.apache.Addr(), d.transport(account, more...)))
}

const iisSPN = "spn HTTP/iis.corp.test"

// remoteUser is whom Apache saw.
func remoteUser(a caddytest.Answer) string { return lab.ParseEcho([]byte(a.Body))["REMOTE_USER"] }

func TestSamba_Users(t *testing.T) {
	d := newDomain(t)
	load(&d.Caddy, "", basicAuth(t, "alice", "bob"), caddytest.Block("reverse_proxy "+d.apache.Addr(), d.transport("svc-proxy", iisSPN, byProvider)))
	for _, name := range []string{"alice", "bob", "alice", "alice", "bob"} {
		if a := d.Get("/echo", signedIn(name)); a.Status != http.StatusOK || remoteUser(a) != name+"@CORP.TEST" {
			t.Errorf("%s: %v", name, a)
		}
	}
	// What a client says of its own authentication is dropped, and reverse_proxy is
	// not to be told to drop ours.
	for _, header := range []string{"Authorization", "authorization, X-User", "close, Authorization"} {
		a := d.Get("/echo", signedIn("alice"), func(r *http.Request) { r.Header.Set("Connection", header) })
		if a.Status != http.StatusOK || remoteUser(a) != "alice@CORP.TEST" {
			t.Errorf("Connection: %s: %v", header, a)
		}
	}
	if a := d.Get("/echo"); a.Status != http.StatusUnauthorized || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Basic") {
		t.Errorf("no user signed in: %v", a)
	}
}

// Apache binds the identity of a connection's first request to the connection: none
// may carry two users, or a request without a token would count as the user before.
func TestSamba_Connections(t *testing.T) {
	d := newDomain(t)
	d.run("svc-proxy", iisSPN, byHeader)
	names := []string{"alice", "bob", "erin"}
	client := d.Client()
	caddytest.All(t, 2000, 32, func(i int) error {
		name := names[i*7%len(names)]
		a, err := caddytest.Ask(client, d.Request(http.MethodGet, "/bound/", asUser(name)))
		if err != nil {
			return err
		}
		if got := a.Header.Get("X-Remote-User"); a.Status != http.StatusOK || got != name+"@CORP.TEST" {
			return fmt.Errorf("%s: %v as %s", name, a, got)
		}
		return nil
	})
	rides := make(map[int]string)
	for _, a := range d.apache.Accesses(t, 2000) {
		if before := rides[a.RemotePort]; a.Before > 0 && before != a.User { // else a new one, by whatever port
			t.Fatalf("a connection carried %s and then %s", before, a.User)
		}
		rides[a.RemotePort] = a.User
	}
	if len(rides) > 1000 {
		t.Errorf("%d connections for 2000 requests: they are not kept", len(rides))
	}
}

// TRAPS section 4 as Samba 4.17 has it.
func TestSamba_Refusals(t *testing.T) {
	d := newDomain(t)
	for _, row := range []struct {
		what, account, user, spn string
		status                   int
		name, code               string
	}{
		{"protocol transition", "svc-proxy", "alice", "", 200, "", ""},
		// Samba 4.17 leaves a UPN as it is, Windows would caddytest.Answer with the account's name.
		{"by UPN", "svc-proxy", "erin.smith@corp.test", "", 200, `erin.smith\@corp.test`, ""},
		{"by UPN of another suffix", "svc-proxy", "frank@mail.example", "", 200, `frank\@mail.example`, ""},
		// Samba does not confirm users, and the account's UPN is another.
		{"by UPN that the PAC lacks", "svc-proxy", "erin@corp.test", "", 403, "delegation_refused", ""},
		{"by domain", "svc-proxy", `CORP\bob`, "", 200, "bob", ""},
		{"large PAC", "svc-proxy", "fat", "", 200, "", ""},
		{"without protocol transition", "svc-kcd", "alice", "", 403, "delegation_refused", "13"},
		{"no list of targets", "svc-plain", "alice", "", 403, "delegation_refused", "13"},
		{"target that is not on the list", "svc-proxy", "alice", "HTTP/legacy.corp.test", 403, "delegation_refused", "13"},
		{"sensitive user", "svc-proxy", "carol", "", 403, "delegation_refused", "13"},
		{"unknown user", "svc-proxy", "nobody", "", 403, "user_unknown", "6"},
		{"unknown UPN", "svc-proxy", "nobody@mail.example", "", 403, "user_unknown", "6"},
		{"disabled user", "svc-proxy", "locked", "", 403, "user_denied", "12"},
		{"expired user", "svc-proxy", "expired", "", 403, "user_denied", "1"},
		{"unknown domain", "svc-proxy", `ELSEWHERE\bob`, "", 403, "user_unknown", "7"},
		{"account without SPN", "svc-nospn", "alice", "", 403, "delegation_refused", "7"},
		{"unknown service", "svc-proxy", "alice", "HTTP/nowhere.corp.test", 502, "unknown_service", "7"},
		{"no user's name", "svc-proxy", "HTTP/iis.corp.test", "", 403, "user_unknown", ""},
	} {
		t.Run(row.what, func(t *testing.T) {
			spn := iisSPN
			if row.spn != "" {
				spn = "spn " + row.spn
			}
			d := *d
			d.Caddy = caddytest.New(t)
			load(&d.Caddy, caddytest.Block("kerberos", caddytest.Block("realm CORP.TEST", "netbios CORP")),
				caddytest.Block("reverse_proxy "+d.apache.Addr(), d.transport(row.account, spn, byHeader)))
			a := d.Get("/echo", asUser(row.user))
			if row.status != http.StatusOK {
				a.WantError(t, row.status, row.name, row.code)
				return
			}
			want := row.name
			if want == "" {
				want = row.user
			}
			if a.Status != http.StatusOK || remoteUser(a) != want+"@CORP.TEST" {
				t.Error(a)
			}
		})
	}
}

// Whatever a name is written like, whom Apache sees is whom the rules were tried on.
func TestSamba_DenyUsers(t *testing.T) {
	d := newDomain(t)
	load(&d.Caddy, caddytest.Block("kerberos", caddytest.Block("realm CORP.TEST", "netbios CORP")),
		caddytest.Block("reverse_proxy "+d.apache.Addr(), d.transport("svc-proxy", iisSPN, byHeader, `deny_users CORP\erin bob`)))
	for _, name := range []string{
		"erin", "ERIN", `corp\Erin`, "erin@corp.test", "erin@CORP.TEST", "erin.smith@corp.test", "bob", "BOB@corp.test", `CORP\bob`,
		"bób", "ｂｏｂ", "bob ", "bo\u00adb", "bob\u200b",
	} {
		if a := d.Get("/echo", asUser(name)); a.Status != http.StatusForbidden {
			t.Errorf("%q: %v", name, a)
		}
	}
	for _, name := range []string{"alice", "Alice", `CORP\ALICE`, "alice@corp.test", "frank@mail.example"} {
		if a := d.Get("/echo", asUser(name)); a.Status != http.StatusOK {
			t.Errorf("%q: %v", name, a)
		}
	}
}

// The domain has no account dc1, only the domain controller's, DC1$: its KDC finds that by either name, and repeats the
// name. The account's name is in the PAC.
func TestSamba_DenyMachines(t *testing.T) {
	d := newDomain(t)
	d.run("svc-proxy", iisSPN, byHeader, "deny_users *$ administrator krbtgt")
	for _, name := range []string{"dc1", "DC1", "dc1$", "DC1$", "dc1$@corp.test", "administrator", "krbtgt"} {
		d.Get("/echo", asUser(name)).WantError(t, http.StatusForbidden, "user_denied", "")
	}
	// The domain controller's UPN is dc1$@corp.test: these prove nothing.
	for _, name := range []string{"dc1@corp.test", "DC1@CORP.TEST"} {
		d.Get("/echo", asUser(name)).WantError(t, http.StatusForbidden, "delegation_refused", "")
	}
	for _, name := range []string{"alice", "erin.smith@corp.test"} {
		if a := d.Get("/echo", asUser(name)); a.Status != http.StatusOK {
			t.Errorf("%q: %v", name, a)
		}
	}
}

// allow_users is held against the account, too.
func TestSamba_AllowUsers(t *testing.T) {
	d := newDomain(t)
	d.run("svc-proxy", iisSPN, byHeader, "allow_users dc1 alice *@mail.example erin.smith@corp.test erin")
	for _, name := range []string{"dc1", "frank@mail.example"} {
		d.Get("/echo", asUser(name)).WantError(t, http.StatusForbidden, "user_denied", "")
	}
	for _, name := range []string{"alice", "erin.smith@corp.test"} {
		if a := d.Get("/echo", asUser(name)); a.Status != http.StatusOK {
			t.Errorf("%q: %v", name, a)
		}
	}
}
