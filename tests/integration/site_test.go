package integration

import (
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

func TestMain(m *testing.M) { caddytest.Main(m) }

const (
	realmName = caddytest.RealmName
	account   = caddytest.Account
	password  = caddytest.Password
	service   = caddytest.Service
	principal = caddytest.Principal
)

// site is Caddy in front of a web server that demands Kerberos.
type site struct {
	caddytest.Env
	target string // what reverse_proxy leads to
}

// newSite starts KDC and upstream. Caddy starts with load.
func newSite(t *testing.T, with caddytest.Options) *site {
	t.Helper()
	s := &site{Env: caddytest.NewEnv(t, with)}
	s.target = s.Upstream.Addr()
	return s
}

// usual are the lines of a negotiate block that logs in with the keytab.
func (s *site) usual(more ...string) string {
	return caddytest.Lines(append(s.Login("spn "+service), more...)...)
}

// caddyfile is a configuration with a negotiate block.
func (s *site) caddyfile(block string) string {
	return s.Global("DEBUG") + caddytest.Site(s.Addr, "negotiate {\n\t\t"+block+"\n\t}", "reverse_proxy "+s.target)
}

// load runs Caddy with a negotiate block.
func (s *site) load(block string) {
	s.T.Helper()
	caddytest.Load(s.T, s.caddyfile(block))
}

// awaitLogin waits until the login in the background has ended, so that what follows
// is counted alone.
func (s *site) awaitLogin() {
	s.T.Helper()
	s.Log.Await(s.T, `"logged in"`, 1)
}

// negotiating is a transport block that logs in with the keytab, with further lines.
func (s *site) negotiating(more ...string) string {
	return caddytest.Block("transport negotiate", s.Login(more...)...)
}

// proxying is a reverse_proxy to upstreams with the lines in its block.
func proxying(upstreams string, in ...string) string {
	return caddytest.Block("reverse_proxy "+upstreams, in...)
}

// config is a configuration: global options beside the usual ones, and the lines of
// the site at Caddy's address.
func (s *site) config(global string, lines ...string) string {
	return s.Global("INFO", caddytest.Block("servers", "enable_full_duplex"), global) + caddytest.Site(s.Addr, lines...)
}

// run loads a site that proxies to the upstreams over the transport. It takes a new
// address: where Caddy takes one over from itself, the kernel may reset a connection
// that comes at that moment.
func (s *site) run(upstreams string, transport ...string) {
	s.T.Helper()
	s.Addr = caddytest.FreeAddress(s.T)
	caddytest.Load(s.T, s.config("", proxying(upstreams, s.negotiating(transport...))))
}

// loader loads a configuration that proxies to an upstream, with more lines in the
// block of the directive or the transport.
type loader func(upstream string, lines ...string)

// inBothForms runs a test once with the directive and once with the transport.
func inBothForms(t *testing.T, test func(t *testing.T, s *site, load loader)) {
	t.Run("directive", func(t *testing.T) {
		caddytest.LeakCheck(t)
		s := newSite(t, caddytest.Options{})
		test(t, s, func(upstream string, lines ...string) {
			s.Addr = caddytest.FreeAddress(t)
			caddytest.Load(t, s.config("", caddytest.Block("negotiate", s.usual(lines...)), proxying(upstream)))
		})
	})
	t.Run("transport", func(t *testing.T) {
		caddytest.LeakCheck(t)
		s := newSite(t, caddytest.Options{})
		test(t, s, func(upstream string, lines ...string) { s.run(upstream, append(lines, "spn "+service)...) })
	})
}

// replaceOnce replaces a text that has to be there once.
func replaceOnce(t *testing.T, text, old, replacement string) string {
	t.Helper()
	if strings.Count(text, old) != 1 {
		t.Fatalf("%d times %q in\n%s", strings.Count(text, old), old, text)
	}
	return strings.Replace(text, old, replacement, 1)
}
