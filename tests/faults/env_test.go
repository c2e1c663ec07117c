package faults

import (
	"net/http"
	"os"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestMain(m *testing.M) {
	if os.Getenv(actAsCaddy) != "" {
		runCaddy() // does not return
	}
	caddytest.Main(m)
}

const (
	realmName = caddytest.RealmName
	account   = caddytest.Account
	password  = caddytest.Password
	service   = caddytest.Service
	principal = caddytest.Principal
)

// env is a realm with Caddy in front of its web server, by several sites.
type env struct {
	caddytest.Env
	global  []string // more global options
	level   string   // of the log
	target  string   // of reverse_proxy
	sites   []string // addresses
	oldKeys []keytab.Entry
}

// newEnv starts KDC and upstream; Caddy starts with load. Once it is stopped, no
// goroutine may be left.
func newEnv(t *testing.T) *env {
	t.Helper()
	caddytest.LeakCheck(t)
	e := &env{Env: caddytest.NewEnv(t, caddytest.Options{}), level: "DEBUG"}
	e.target, e.sites = e.Upstream.Addr(), []string{e.Addr}
	return e
}

// usual are the lines that log in with the keytab.
func (e *env) usual(more ...string) string {
	return caddytest.Lines(append(e.Login("spn "+service), more...)...)
}

// load runs Caddy with a site for each negotiate block.
func (e *env) load(blocks ...string) {
	e.T.Helper()
	for len(e.sites) < len(blocks) {
		e.sites = append(e.sites, caddytest.FreeAddress(e.T))
	}
	text := e.Global(e.level, e.global...)
	for i, block := range blocks {
		text += caddytest.Site(e.sites[i],
			"respond /ping pong",
			caddytest.Block("negotiate", block),
			// A busy machine is no dead upstream.
			caddytest.Block("reverse_proxy "+e.target, caddytest.Block("transport http", "dial_timeout 1m")))
	}
	caddytest.Load(e.T, text)
}

// getAt asks a site.
func (e *env) getAt(site int) caddytest.Answer {
	e.T.Helper()
	return caddytest.Do(e.T, caddytest.Request(e.T, http.MethodGet, "http://"+e.sites[site]+"/"))
}

// isServed reports whether the upstream authenticated the proxy's account.
func isServed(a caddytest.Answer) bool { return a.IsUser(principal) }

func (e *env) wantServed() caddytest.Answer {
	e.T.Helper()
	a := e.Get("/")
	a.WantUser(e.T, principal)
	return a
}

// awaitServed waits until the first site serves, and meanwhile wants the answers of
// an outage.
func (e *env) awaitServed() {
	e.T.Helper()
	caddytest.WaitFor(e.T, "the first site serves again", func() bool {
		a := e.Get("/")
		if !isServed(a) {
			wantOutage(e.T, a)
		}
		return isServed(a)
	})
}

// ChangeServiceKey gives the web server a new key, and keeps the old one in oldKeys.
func (e *env) ChangeServiceKey() {
	e.T.Helper()
	before, err := keytab.Parse(e.KeysOf(e.Web))
	if err != nil {
		e.T.Fatal(err)
	}
	e.oldKeys = append(e.oldKeys, before.Entries...)
	e.Env.ChangeServiceKey()
}

// startKDC starts another KDC of the realm.
func (e *env) startKDC() *kdctest.KDC {
	e.T.Helper()
	return caddytest.StartKDC(e.T, kdctest.Config{Realms: []*kdctest.Realm{e.Realm}})
}

// wantOutage fails unless the answer is that of a KDC that cannot be reached.
func wantOutage(t *testing.T, a caddytest.Answer) {
	t.Helper()
	a.WantError(t, http.StatusServiceUnavailable, "kdc_unreachable")
	if a.Header.Get("Retry-After") == "" {
		t.Fatalf("no Retry-After: %v", a)
	}
}
