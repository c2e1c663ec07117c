package delegation

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const byTicket = "impersonate client_ticket"

// listed are the options of an account that may impersonate users who have signed in to it: it has a
// list of services, and no protocol transition.
func listed() []kdctest.Option {
	return []kdctest.Option{kdctest.SPN(proxySPN), kdctest.DelegateTo(webSPN)}
}

// newSignInEnv is newEnv for users who sign in with their tickets.
func newSignInEnv(t *testing.T, with caddytest.Options) *env {
	t.Helper()
	if with.Proxy == nil {
		with.Proxy = listed()
	}
	return newEnv(t, with)
}

// identity is the global option with the proxy's account.
func (e *env) identity(more ...string) string {
	return caddytest.Block("kerberos", append([]string{caddytest.Block("identity intranet", e.Login("use_tcp")...)}, more...)...)
}

// byTicket proxies to the upstream as the user who has signed in.
func (e *env) byTicket(more ...string) string {
	return caddytest.Block("reverse_proxy "+e.Upstream.Addr(), caddytest.Block("transport negotiate intranet",
		append([]string{"spn " + webSPN, byTicket}, more...)...))
}

const signIn = "negotiate_auth intranet"

// runSignedIn has users sign in, and proxies as them.
func (e *env) runSignedIn(more ...string) {
	e.T.Helper()
	load(&e.Caddy, e.identity(), caddytest.Block(signIn, "spn "+proxySPN), e.byTicket(more...))
}

// user is a user at a client.
func (e *env) user(name string) *caddytest.User {
	e.T.Helper()
	if !strings.Contains(name, "@") {
		name += "@" + corpRealm
	}
	return caddytest.NewUser(e.T, e.KDC, name, "x", proxySPN)
}

// Each user is seen as themselves, by nothing but their own ticket.
func TestSignedIn_Users(t *testing.T) {
	e := newSignInEnv(t, caddytest.Options{})
	e.runSignedIn()
	users := map[string]*caddytest.User{"alice": e.user("alice"), "bob": e.user("bob")}
	e.Log.Await(t, `"logged in"`, 1)
	e.KDC.ResetCounts()
	for range 3 {
		for name, u := range users {
			a := e.Get("/", u.SignIn)
			a.WantUser(t, name+"@"+corpRealm)
			if proof := a.Header.Get("WWW-Authenticate"); !strings.HasPrefix(proof, "Negotiate ") {
				t.Errorf("%s: the proxy proves itself by %q", name, proof)
			}
		}
	}
	wantExchanges(t, e.KDC, 0, 0, 2)
	if a := e.Get("/"); a.Status != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != "Negotiate" {
		t.Errorf("without a token: %v", a)
	}
}

func TestSignedIn_NoSignIn(t *testing.T) {
	const warning = "impersonate client_ticket without negotiate_auth"
	e := newSignInEnv(t, caddytest.Options{})
	auth, proxy := caddytest.Block(signIn, "spn "+proxySPN), e.byTicket()
	for name, c := range map[string]struct {
		site   []string
		warned bool
	}{
		"none":                   {[]string{proxy}, true},
		"before":                 {[]string{auth, proxy}, false},
		"around a handle":        {[]string{auth, caddytest.Block("handle", proxy)}, false},
		"in the handle":          {[]string{caddytest.Block("handle", auth, proxy)}, false},
		"in another handle":      {[]string{caddytest.Block("handle /a", auth), caddytest.Block("handle", proxy)}, true},
		"behind":                 {[]string{caddytest.Block("route", proxy, auth)}, true},
		"before, in a route":     {[]string{caddytest.Block("route", auth, proxy)}, false},
		"in a route before":      {[]string{caddytest.Block("route", caddytest.Block("route", auth), proxy)}, false},
		"for some paths":         {[]string{strings.Replace(auth, "intranet", "/a intranet", 1), proxy}, false},
		"for the page of errors": {[]string{auth, caddytest.Block("handle_errors 502", proxy)}, false},
	} {
		before := e.Log.Count(warning)
		load(&e.Caddy, e.identity(), c.site...)
		if n := e.Log.Count(warning) - before; n > 1 || (n == 1) != c.warned {
			t.Errorf("%s: warned %d times, want %t", name, n, c.warned)
		}
	}
	load(&e.Caddy, e.identity(), proxy)
	e.Get("/").WantError(t, http.StatusForbidden, "user_missing", "")
}

func TestSignedIn_OtherAccount(t *testing.T) {
	e := newSignInEnv(t, caddytest.Options{})
	other := e.Realm.AddUser("svc-other", "y", kdctest.SPN("HTTP/other.corp.example"))
	keytab := e.Write("other.keytab", e.KeysOf(other))
	load(&e.Caddy, e.identity(caddytest.Block("identity other", "user svc-other@"+corpRealm, "keytab "+keytab, "kdc "+e.KDC.Addr())),
		caddytest.Block("handle /right", caddytest.Block(signIn, "spn "+proxySPN), e.byTicket()),
		caddytest.Block("handle", caddytest.Block("negotiate_auth other", "spn HTTP/other.corp.example"), e.byTicket()))
	alice := e.user("alice")
	e.Get("/right", alice.SignIn).WantUser(t, "alice@"+corpRealm)
	wrong := caddytest.NewUser(t, e.KDC, "alice@"+corpRealm, "x", "HTTP/other.corp.example")
	// The ticket for the service is held, and not for this user of this account.
	e.Get("/", wrong.SignIn).WantError(t, http.StatusForbidden, "delegation_refused", "")
	if !e.Log.Contains("name one identity in negotiate_auth and in transport negotiate") {
		t.Errorf("no remedy in the log:\n%s", e.Log)
	}
}

// Where the KDC refuses, the log says which flag of which account is in the way.
func TestSignedIn_Refused(t *testing.T) {
	for name, c := range map[string]struct {
		proxy  []kdctest.Option
		user   kdctest.Flags
		web    []kdctest.Option
		remedy string // empty: not refused
	}{
		"on the list":                     {proxy: listed()},
		"resource-based":                  {proxy: []kdctest.Option{kdctest.SPN(proxySPN)}, web: []kdctest.Option{kdctest.ActFor("svc-proxy")}},
		"with protocol transition too":    {proxy: trusted()},
		"not on the list":                 {proxy: []kdctest.Option{kdctest.SPN(proxySPN)}, remedy: "Set-ADUser svc-proxy -Add @{'msDS-AllowedToDelegateTo'='HTTP/web.corp.example'}"},
		"sensitive user":                  {proxy: listed(), user: kdctest.NotDelegable, remedy: "AccountNotDelegated"},
		"protected user":                  {proxy: listed(), user: kdctest.Protected, remedy: "Protected Users"},
		"sensitive user, by transition":   {proxy: trusted(), user: kdctest.NotDelegable, remedy: "kinit -f"},
		"sensitive user, by resource":     {proxy: []kdctest.Option{kdctest.SPN(proxySPN)}, web: []kdctest.Option{kdctest.ActFor("svc-proxy")}, user: kdctest.NotDelegable, remedy: "not forwardable"},
		"resource-based, another account": {proxy: []kdctest.Option{kdctest.SPN(proxySPN)}, web: []kdctest.Option{kdctest.ActFor("bob")}, remedy: "PrincipalsAllowedToDelegateToAccount svc-proxy"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newSignInEnv(t, caddytest.Options{Proxy: c.proxy})
			e.Realm.Principal("alice").Set(kdctest.With(c.user))
			e.Web.Set(c.web...)
			e.runSignedIn()
			alice := e.user("alice")
			for range 2 {
				a := e.Get("/", alice.SignIn)
				if c.remedy == "" {
					a.WantUser(t, "alice@"+corpRealm)
					continue
				}
				a.WantError(t, http.StatusForbidden, "delegation_refused", "13")
				if !e.Log.Contains(strings.ReplaceAll(c.remedy, `"`, `\"`)) {
					t.Errorf("no %q in the log:\n%s", c.remedy, e.Log)
				}
			}
			if n := e.KDC.Counts().S4U2Self; n != 0 {
				t.Errorf("%d tickets by protocol transition", n)
			}
		})
	}
}

// The rules hold for the name in the ticket and for the account that its PAC names.
func TestSignedIn_Rules(t *testing.T) {
	for _, pacs := range []bool{false, true} {
		e := newSignInEnv(t, caddytest.Options{})
		if pacs {
			e.Realm.IssuePACs()
		}
		e.runSignedIn("deny_users BOB", "allow_users alice bob")
		for name, denied := range map[string]bool{"alice": false, "bob": true, "carol": true} {
			a := e.Get("/", e.user(name).SignIn)
			if !denied {
				a.WantUser(t, name+"@"+corpRealm)
				continue
			}
			a.WantError(t, http.StatusForbidden, "user_denied", "")
		}
		if n := e.KDC.Counts().S4U2Proxy; n != 1 {
			t.Errorf("%d tickets to the service: some for users who are denied", n)
		}
	}
}

// 50 users at once, and in disorder: no user is taken for another, whether they have connections of
// their own or share them.
func TestSignedIn_Interleaved(t *testing.T) {
	const users, width = 50, 32
	for _, setting := range []string{"user_connections 100", sharing} {
		t.Run(strings.Fields(setting)[0], func(t *testing.T) {
			e := newSignInEnv(t, caddytest.Options{})
			people := make([]*caddytest.User, users)
			for i := range people {
				e.Realm.AddUser(userName(i), "x")
				people[i] = e.user(userName(i))
			}
			e.KDC.ResetCounts()
			e.runSignedIn(setting)
			client := e.Client()
			caddytest.All(t, caddytest.Long(600, 10_000), width, func(i int) error {
				who := i * 7 % users
				a, err := caddytest.Ask(client, e.Request(http.MethodGet, "/", people[who].SignIn))
				if err == nil && !a.IsUser(userName(who)+"@"+corpRealm) {
					err = fmt.Errorf("%s got %v", userName(who), a)
				}
				return err
			})
			if n := e.KDC.Counts(); n.S4U2Proxy != users || n.S4U2Self != 0 {
				t.Errorf("%d tickets to the service, %d by protocol transition, want %d and none", n.S4U2Proxy, n.S4U2Self, users)
			}
			if n := e.Acceptor.Counts(); n.Misattributed > 0 || len(n.Refused) > 0 {
				t.Errorf("%+v", n)
			}
		})
	}
}

// Users of a trusted realm sign in, and services of one are reached by resource-based delegation.
func TestSignedIn_Trust(t *testing.T) {
	other, branchWeb := otherRealm()
	e := newSignInEnv(t, caddytest.Options{Trusts: []*kdctest.Realm{other}})
	other.MapDomain(".corp.example", corpRealm)
	e.Realm.MapDomain(".branch.example", other.Name())
	identity := e.identity(caddytest.Block("realm BRANCH.EXAMPLE", "kdc "+e.KDC.Addr(), "domains .branch.example"))
	load(&e.Caddy, identity, caddytest.Block(signIn, "spn "+proxySPN), e.byTicket())
	eve, alice := e.user("eve@BRANCH.EXAMPLE"), e.user("alice")
	e.Get("/", eve.SignIn).WantUser(t, "eve@BRANCH.EXAMPLE")
	e.Get("/", e.user("alice@BRANCH.EXAMPLE").SignIn).WantUser(t, "alice@BRANCH.EXAMPLE")
	e.Get("/", alice.SignIn).WantUser(t, "alice@"+corpRealm)

	keys := caddytest.KeysOf(t, other, branchWeb)
	e.UpdateAcceptor(func(c *kdctest.AcceptorConfig) { c.Keytab = keys })
	load(&e.Caddy, identity, caddytest.Block(signIn, "spn "+proxySPN), caddytest.Block("reverse_proxy "+e.Upstream.Addr(),
		caddytest.Block("transport negotiate intranet", "spn HTTP/web.branch.example", byTicket)))
	e.Get("/", eve.SignIn).WantUser(t, "eve@BRANCH.EXAMPLE")
	e.Get("/", alice.SignIn).WantUser(t, "alice@"+corpRealm)
	branchWeb.Set(kdctest.ActFor("bob"))
	e.Get("/", e.user("carol").SignIn).WantError(t, http.StatusForbidden, "delegation_refused", "13")
	if n := e.KDC.Counts().S4U2Self; n != 0 {
		t.Errorf("%d tickets by protocol transition", n)
	}
}
