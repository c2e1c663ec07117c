package delegation

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const (
	corpRealm = "CORP.EXAMPLE"
	webSPN    = "HTTP/web.corp.example"
	proxySPN  = "HTTP/proxy.corp.example"
	proxyName = "svc-proxy@" + corpRealm
)

// corp is a Windows domain in miniature: users alice, bob and carol, a web server,
// and the proxy's account.
type corp struct {
	*front
	realm    *kdctest.Realm
	kdc      *kdctest.KDC
	proxy    *kdctest.Principal
	web      *kdctest.Principal
	acceptor *kdctest.Acceptor
	upstream *kdctest.Upstream
	keytab   string
}

// trusted are the options of an account that may act for everybody: protocol
// transition to the web server.
func trusted() []kdctest.Option {
	return []kdctest.Option{kdctest.SPN(proxySPN), kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo(webSPN)}
}

// setup is what a test wants otherwise.
type setup struct {
	kdc      kdctest.Config
	proxy    []kdctest.Option // trusted, if nil
	acceptor kdctest.AcceptorConfig
	upstream kdctest.UpstreamConfig
	realms   []*kdctest.Realm // which the realm's trust leads to
}

func newCorp(t *testing.T, with setup) *corp {
	t.Helper()
	c := &corp{front: newFront(t), realm: kdctest.NewRealm(corpRealm)}
	c.realm.IgnoreCase()
	if with.proxy == nil {
		with.proxy = trusted()
	}
	c.proxy = c.realm.AddUser("svc-proxy", "a secret of the proxy", with.proxy...)
	c.web = c.realm.AddService(webSPN)
	for _, name := range []string{"alice", "bob", "carol"} {
		c.realm.AddUser(name, "x")
	}
	c.keytab = filepath.Join(t.TempDir(), "svc-proxy.keytab")
	c.refreshKeytab()
	for _, other := range with.realms {
		kdctest.Trust(c.realm, other)
	}
	with.kdc.Realms = append([]*kdctest.Realm{c.realm}, with.realms...)
	c.kdc = startKDC(t, with.kdc)
	with.acceptor.Keytab = keysOf(t, c.realm, c.web)
	c.acceptor, c.upstream = startUpstream(t, with.acceptor, with.upstream)
	return c
}

func (c *corp) refreshKeytab() {
	c.t.Helper()
	if err := os.WriteFile(c.keytab, keysOf(c.t, c.realm, c.proxy), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func keysOf(t *testing.T, realm *kdctest.Realm, p ...*kdctest.Principal) []byte {
	t.Helper()
	keys, err := realm.Keytab(p...)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func startKDC(t *testing.T, cfg kdctest.Config) *kdctest.KDC {
	t.Helper()
	k := kdctest.NewKDC(cfg)
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	return k
}

func startUpstream(t *testing.T, accepts kdctest.AcceptorConfig, how kdctest.UpstreamConfig) (*kdctest.Acceptor, *kdctest.Upstream) {
	t.Helper()
	acceptor, err := kdctest.NewAcceptor(accepts)
	if err != nil {
		t.Fatal(err)
	}
	how.Acceptor = acceptor
	upstream := kdctest.NewUpstream(how)
	if err := upstream.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(upstream.Stop)
	return acceptor, upstream
}

// transport is a transport block that acts for users, with further lines. It keeps to
// TCP, so that what the KDC is asked can be counted.
func (c *corp) transport(more ...string) string {
	return block("transport negotiate", append([]string{
		"kdc " + c.kdc.Addr(), "user " + proxyName, "keytab " + c.keytab, "use_tcp",
	}, more...)...)
}

// run proxies to the upstream in the name of X-User.
func (c *corp) run(more ...string) {
	c.t.Helper()
	c.load("", block("reverse_proxy "+c.upstream.Addr(), c.transport(append([]string{"spn " + webSPN, byHeader}, more...)...)))
}

func (c *corp) as(name string) answer {
	c.t.Helper()
	return c.get("/", as(name))
}

// wantExchanges fails unless the KDC issued so many tickets of each kind.
func (c *corp) wantExchanges(logins, self, onward int) {
	c.t.Helper()
	n := c.kdc.Counts()
	if n.ASRep != logins || n.S4U2Self != self || n.S4U2Proxy != onward {
		c.t.Errorf("%d logins, %d users' tickets to us, %d to services, want %d, %d and %d", n.ASRep, n.S4U2Self, n.S4U2Proxy, logins, self, onward)
	}
}

func TestUsersSeeThemselves(t *testing.T) {
	c := newCorp(t, setup{})
	c.run()
	for _, name := range []string{"alice", "bob", "alice", "carol", "bob"} {
		c.as(name).wantUser(t, name+"@"+corpRealm)
	}
	c.wantExchanges(1, 3, 3)
	c.get("/").wantError(t, http.StatusForbidden, "user_missing", "")
	c.as(" ").wantError(t, http.StatusForbidden, "user_missing", "")
}
