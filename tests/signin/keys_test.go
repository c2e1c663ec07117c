package signin

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// newUser is a user with a new ticket.
func (e *env) newUser(name string) *caddytest.User {
	e.T.Helper()
	return caddytest.NewUser(e.T, e.KDC, name+"@"+realmName, password, service)
}

// A keytab is read again when a ticket needs it; what it replaced opens older tickets, over a reload
// too.
func TestKeytab_Rotated(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.load(e.auth(spnLine), who)
	old := e.newUser("alice")
	wantUser(t, e.get(old.SignIn), "alice")
	e.Proxy.ChangePassword("another", false)
	fresh := e.newUser("alice")
	wantChallenge(t, e.get(fresh.SignIn))
	e.wantLogged("client not signed in", `"reason":"unknown_kvno"`, `"kvno":2`, "export it again")
	caddytest.ReplaceFile(t, e.Keytab, e.KeysOf(e.Proxy)) // the new key only
	wantUser(t, e.get(fresh.SignIn), "alice")
	wantUser(t, e.get(old.SignIn), "alice")
	e.load(e.auth(spnLine), "header X-Reloaded yes", who)
	wantUser(t, e.get(old.SignIn), "alice")
	wantUser(t, e.get(fresh.SignIn), "alice")
	// A file that cannot be read changes nothing.
	caddytest.ReplaceFile(t, e.Keytab, []byte("no keytab"))
	wantUser(t, e.get(fresh.SignIn), "alice")
}

func TestKeytab_ManyPrincipals(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	one, two := e.Realm.AddService("HTTP/one.corp.example"), e.Realm.AddService("HTTP/two.corp.example")
	ldap := e.Realm.AddService("ldap/one.corp.example")
	keys := e.Write("many.keytab", e.KeysOf(ldap, one, two))
	as := func(spn string) func(*http.Request) {
		return caddytest.NewUser(t, e.KDC, "alice@"+realmName, password, spn).SignIn
	}
	e.load(caddytest.Block("negotiate_auth", "kdc "+e.KDC.Addr(), "keytab "+keys), who)
	wantUser(t, e.get(as("HTTP/one.corp.example")), "alice")
	wantUser(t, e.get(as("HTTP/two.corp.example")), "alice")
	wantChallenge(t, e.get(as("ldap/one.corp.example")))
	e.load(caddytest.Block("negotiate_auth", "kdc "+e.KDC.Addr(), "keytab "+keys, "spn HTTP/ONE.corp.example"), who)
	wantUser(t, e.get(as("HTTP/one.corp.example")), "alice")
	wantChallenge(t, e.get(as("HTTP/two.corp.example")))
	// The account's name only, as in Active Directory, and several of its services.
	e.load(caddytest.Block("negotiate_auth", "kdc "+e.KDC.Addr(), "user "+caddytest.Principal, "keytab "+e.accountKeytab(), spnLine), who)
	wantUser(t, e.get(e.user("alice").SignIn), "alice")
	wantChallenge(t, e.get(as("HTTP/one.corp.example")))
	e.load(caddytest.Block("negotiate_auth", "kdc "+e.KDC.Addr(), "keytab "+keys, "spn ldap/one.corp.example"), who)
	wantUser(t, e.get(as("ldap/one.corp.example")), "alice")
	wantChallenge(t, e.get(as("HTTP/one.corp.example")))
}

// Of a password only the KDC knows the salt. It is asked once, by a request that proves nothing.
func TestPassword(t *testing.T) {
	e := newEnv(t, caddytest.Options{Proxy: []kdctest.Option{kdctest.SPN(service), kdctest.Salt("a salt of its own")}})
	file := e.Write("password", []byte(caddytest.Password))
	e.load(caddytest.Block("negotiate_auth", "kdc "+e.KDC.Addr(), "use_tcp", "user "+caddytest.Principal, "password_file "+file, spnLine), who)
	old := e.newUser("alice")
	before := e.KDC.Counts()
	if before.ASRep != 1 { // alice's
		t.Fatalf("%d logins", before.ASRep)
	}
	for range 3 {
		wantUser(t, e.get(old.SignIn), "alice")
	}
	after := e.KDC.Counts()
	if after.ASReq-before.ASReq != 1 || after.ASReqPreAuth != before.ASReqPreAuth || after.ASRep != before.ASRep {
		t.Errorf("the account sent %d requests, %d with a proof, got %d tickets", after.ASReq-before.ASReq,
			after.ASReqPreAuth-before.ASReqPreAuth, after.ASRep-before.ASRep)
	}
	// The password before opens older tickets.
	e.Proxy.ChangePassword("another", false)
	caddytest.ReplaceFile(t, file, []byte("another"))
	wantUser(t, e.get(e.newUser("alice").SignIn), "alice")
	wantUser(t, e.get(old.SignIn), "alice")
}

func TestPassword_KDCDown(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	alice := e.newUser("alice")
	e.load(caddytest.Block("negotiate_auth", "kdc "+e.KDC.Addr(), "timeout 1s", "user "+caddytest.Principal, "password `"+caddytest.Password+"`", spnLine), who)
	if err := e.KDC.Interrupt(); err != nil {
		t.Fatal(err)
	}
	a := e.get(alice.SignIn)
	if a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || !strings.HasPrefix(a.Body, "503") {
		t.Fatalf("got %v", a)
	}
	e.wantLogged("client not signed in", `"remedy":"is the KDC up`)
	if err := e.KDC.Start(); err != nil {
		t.Fatal(err)
	}
	caddytest.WaitFor(t, "the KDC is asked again", func() bool { return e.get(alice.SignIn).Status == http.StatusOK })
}

// An identity that only opens tickets does not log in; one that a transport uses too does.
func TestLoginAtStart(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	named := caddytest.Block("kerberos", caddytest.Block("identity intranet", e.Login()...))
	config := func(lines ...string) string {
		return e.Global("DEBUG", named) + caddytest.Site(e.Addr, lines...)
	}
	auth := caddytest.Block("negotiate_auth intranet", spnLine)
	caddytest.Load(t, config(auth, who))
	wantUser(t, e.Get("/", e.user("alice").SignIn), "alice")
	e.WantCounts(1, 1) // alice's
	proxy := caddytest.Block("reverse_proxy "+e.Upstream.Addr(), caddytest.Block("transport negotiate intranet", "spn "+caddytest.Service))
	caddytest.Load(t, config(auth, proxy))
	e.Log.Await(t, "logged in", 1)
	if c := e.KDC.Counts(); c.ASRep != 2 {
		t.Errorf("%d logins", c.ASRep)
	}
}

func TestGroups(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	for _, row := range []struct {
		rules      []string
		alice, bob bool
	}{
		{[]string{"allow_groups S-1-5-21-1-2-3-1104"}, true, false},
		{[]string{"allow_groups *-1104 *-1105"}, true, false},
		{[]string{"deny_groups s-1-5-21-1-2-3-1104"}, false, true},
		{[]string{"allow_groups S-1-5-21-1-2-3-513", "deny_groups *-1104"}, false, true},
		{[]string{"allow_groups S-1-5-21-1-2-3-11"}, false, false},
		{[]string{"allow_groups S-1-5-21-1-2-3-513"}, true, true},
		{[]string{"realms corp.example"}, true, true},
		{[]string{"realms OTHER.EXAMPLE"}, false, false},
	} {
		e.load(e.auth(append(row.rules, spnLine)...), who)
		for name, allowed := range map[string]bool{"alice": row.alice, "bob": row.bob} {
			u := e.user(name)
			a := e.get(u.SignIn)
			if allowed {
				wantUser(t, a, name)
			} else if a.Status != http.StatusForbidden || strings.Contains(a.Body, name) {
				t.Errorf("%q: %s gets %v", row.rules, name, a)
			}
			u.WantProof(a)
		}
	}
}

// Users of a realm that is trusted sign in, unless realms excludes them.
func TestTrust(t *testing.T) {
	other := kdctest.NewRealm("OTHER.EXAMPLE")
	other.AddUser("dave", password)
	e := newEnv(t, caddytest.Options{Trusts: []*kdctest.Realm{other}})
	e.load(e.auth(spnLine), who)
	dave := caddytest.NewUser(t, e.KDC, "dave@OTHER.EXAMPLE", password, service+"@"+realmName)
	if a := e.get(dave.SignIn); a.Status != http.StatusOK || !strings.HasPrefix(a.Body, "dave@OTHER.EXAMPLE dave OTHER.EXAMPLE") {
		t.Fatalf("got %v", a)
	}
	e.load(e.auth(spnLine, "realms "+realmName), who)
	if a := e.get(dave.SignIn); a.Status != http.StatusForbidden {
		t.Errorf("got %v", a)
	}
	wantUser(t, e.get(e.user("alice").SignIn), "alice")
}
