package delegation

import (
	"fmt"
	"net/http"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestMain(m *testing.M) { caddytest.Main(m) }

const (
	corpRealm = caddytest.RealmName
	webSPN    = caddytest.Service
	proxySPN  = "HTTP/proxy.corp.example"
	proxyName = caddytest.Principal
)

// Where the user's name comes from.
const (
	byProvider = "impersonate {http.auth.user.id}"
	byHeader   = "impersonate {http.request.header.X-User}\ntrust_header X-User"
)

// env is a Windows domain in miniature: users alice, bob and carol, a web server, and
// the proxy's account.
type env struct{ caddytest.Env }

// trusted are the options of an account that may impersonate everyone: protocol
// transition to the web server.
func trusted() []kdctest.Option {
	return []kdctest.Option{kdctest.SPN(proxySPN), kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo(webSPN)}
}

// newEnv starts KDC and upstream. The proxy's account is trusted if with says nothing
// of it.
func newEnv(t *testing.T, with caddytest.Options) *env {
	t.Helper()
	if with.Proxy == nil {
		with.Proxy = trusted()
	}
	e := &env{caddytest.NewEnv(t, with)}
	e.Realm.IgnoreCase()
	for _, name := range []string{"alice", "bob", "carol"} {
		e.Realm.AddUser(name, "x")
	}
	return e
}

// transport is a transport block that impersonates users, with further lines. It uses
// TCP alone, so that the KDC's requests can be counted.
func (e *env) transport(more ...string) string {
	return caddytest.Block("transport negotiate", append(e.Login("use_tcp"), more...)...)
}

// run proxies to the upstream as the user in X-User.
func (e *env) run(more ...string) {
	e.T.Helper()
	load(&e.Caddy, "", caddytest.Block("reverse_proxy "+e.Upstream.Addr(), e.transport(append([]string{"spn " + webSPN, byHeader}, more...)...)))
}

// getAs asks for / as a user.
func (e *env) getAs(name string) caddytest.Answer {
	e.T.Helper()
	return e.Get("/", asUser(name))
}

// wantExchanges fails unless the KDC issued so many tickets of each kind.
func wantExchanges(t *testing.T, k *kdctest.KDC, logins, self, proxy int) {
	t.Helper()
	n := k.Counts()
	if n.ASRep != logins || n.S4U2Self != self || n.S4U2Proxy != proxy {
		t.Errorf("%d logins, %d S4U2Self, %d S4U2Proxy, want %d, %d and %d", n.ASRep, n.S4U2Self, n.S4U2Proxy, logins, self, proxy)
	}
}

// config is a configuration: global options beside the usual ones, and the lines of
// the site.
func config(c *caddytest.Caddy, global string, lines ...string) string {
	return c.Global("INFO", global) + caddytest.Site(c.Addr, lines...)
}

func load(c *caddytest.Caddy, global string, lines ...string) {
	c.T.Helper()
	caddytest.Load(c.T, config(c, global, lines...))
}

// asUser sets the header that a gateway in front would set.
func asUser(name string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("X-User", name) }
}

// signedIn signs in with the password of basicAuth.
func signedIn(name string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(name, "pw") }
}

// basicAuth is the directive for users whose password is pw.
func basicAuth(t *testing.T, users ...string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("pw"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	lines := make([]string, len(users))
	for i, u := range users {
		lines[i] = fmt.Sprintf("`%s` %s", u, hash)
	}
	return caddytest.Block("basic_auth", lines...)
}

func TestImpersonate_Users(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.run()
	for _, name := range []string{"alice", "bob", "alice", "carol", "bob"} {
		e.getAs(name).WantUser(t, name+"@"+corpRealm)
	}
	wantExchanges(t, e.KDC, 1, 3, 3)
	e.Get("/").WantError(t, http.StatusForbidden, "user_missing", "")
	e.getAs(" ").WantError(t, http.StatusForbidden, "user_missing", "")
}
