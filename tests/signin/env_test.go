package signin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestMain(m *testing.M) { caddytest.Main(m) }

const (
	realmName = caddytest.RealmName
	service   = "HTTP/proxy.corp.example"
	password  = "the user's"
)

// env is a domain with the users alice and bob, whose proxy has the service.
type env struct {
	caddytest.Env
	users map[string]*caddytest.User
}

func newEnv(t *testing.T, with caddytest.Options) *env {
	t.Helper()
	if with.Proxy == nil {
		with.Proxy = []kdctest.Option{kdctest.SPN(service)}
	}
	e := &env{Env: caddytest.NewEnv(t, with), users: make(map[string]*caddytest.User)}
	e.Realm.IgnoreCase()
	e.Realm.IssuePACs()
	e.Realm.AddUser("alice", password, kdctest.MemberOf(1104))
	e.Realm.AddUser("bob", password)
	return e
}

// user is a client with a ticket for the service.
func (e *env) user(name string) *caddytest.User {
	e.T.Helper()
	if e.users[name] == nil {
		e.users[name] = caddytest.NewUser(e.T, e.KDC, name+"@"+realmName, password, service)
	}
	return e.users[name]
}

// accountKeytab is a keytab that has the account's name only, as in Active Directory.
func (e *env) accountKeytab() string {
	e.T.Helper()
	file, err := keytab.Parse(e.KeysOf(e.Proxy))
	if err != nil {
		e.T.Fatal(err)
	}
	file.Entries = slices.DeleteFunc(file.Entries, func(entry keytab.Entry) bool { return entry.Principal.String() != caddytest.Principal })
	content, err := file.Marshal()
	if err != nil {
		e.T.Fatal(err)
	}
	return e.Write("account.keytab", content)
}

// auth is a directive with the keytab and further lines.
func (e *env) auth(more ...string) string {
	return caddytest.Block("negotiate_auth", e.Login(more...)...)
}

const spnLine = "spn " + service

// who answers with what is known of the user.
const who = `respond "{http.auth.user.id} {http.auth.user.name} {http.auth.user.realm} {http.auth.user.sid} {http.auth.user.groups} [{http.request.header.Authorization}]"`

// config is a site whose server believes what a proxy on this machine says of clients.
func (e *env) config(lines ...string) string {
	return e.Global("DEBUG", caddytest.Block("servers", "trusted_proxies static 127.0.0.1/32")) + caddytest.Site(e.Addr, lines...)
}

func (e *env) load(lines ...string) {
	e.T.Helper()
	caddytest.Load(e.T, e.config(lines...))
}

// addresses are the clients' addresses, of which each test uses others: tokens that fail are
// counted in the process.
var addresses atomic.Int32

func newAddress() string {
	n := addresses.Add(1)
	return fmt.Sprintf("10.1.%d.%d", n>>8, n&0xff)
}

// from gives a request an address of its client.
func from(address string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("X-Forwarded-For", address) }
}

// get requests / from a new address.
func (e *env) get(change ...func(*http.Request)) caddytest.Answer {
	e.T.Helper()
	return e.Get("/", append([]func(*http.Request){from(newAddress())}, change...)...)
}

// wantUser fails unless a client has signed in.
func wantUser(t *testing.T, a caddytest.Answer, name string) {
	t.Helper()
	if a.Status != http.StatusOK || !strings.HasPrefix(a.Body, name+"@"+realmName+" ") {
		t.Fatalf("got %v, want %s", a, name)
	}
}

// wantChallenge fails unless the client was asked for a token, and not told why.
func wantChallenge(t *testing.T, a caddytest.Answer) {
	t.Helper()
	if got := a.Header.Values("WWW-Authenticate"); a.Status != http.StatusUnauthorized || len(got) != 1 || got[0] != "Negotiate" {
		t.Fatalf("got %v with challenges %q, want 401 and Negotiate", a, got)
	}
}

// wantLogged fails unless the log has a line with all of these.
func (e *env) wantLogged(parts ...string) {
	e.T.Helper()
	for line := range strings.Lines(e.Log.String()) {
		if containsAll(line, parts) {
			return
		}
	}
	e.T.Fatalf("no line of the log has %q", parts)
}

func containsAll(line string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(line, p) {
			return false
		}
	}
	return true
}
