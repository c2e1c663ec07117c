package caddytest

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// What an Env has if its Options say nothing else.
const (
	RealmName = "CORP.EXAMPLE"
	Account   = "svc-proxy"
	Password  = "a secret of the proxy"
	Service   = "HTTP/web.corp.example"
	Principal = Account + "@" + RealmName
)

// Env is a Kerberos realm with Caddy in front of its web server. KDC and upstream
// run; Caddy runs as soon as a configuration is loaded.
type Env struct {
	Caddy
	Realm    *kdctest.Realm
	KDC      *kdctest.KDC
	Proxy    *kdctest.Principal // Account
	Keytab   string             // path of the proxy's keytab
	Web      *kdctest.Principal // Service
	Acceptor *kdctest.Acceptor
	Upstream *kdctest.Upstream
}

// Options change an Env before it starts.
type Options struct {
	KDC      kdctest.Config
	Proxy    []kdctest.Option
	Web      []kdctest.Option
	Acceptor kdctest.AcceptorConfig
	Upstream kdctest.UpstreamConfig
	// Trusts are further realms, which the realm has a trust with. The KDC serves them too.
	Trusts []*kdctest.Realm
}

// NewEnv starts a KDC and an upstream.
func NewEnv(t *testing.T, with Options) Env {
	t.Helper()
	e := Env{Caddy: New(t), Realm: kdctest.NewRealm(RealmName)}
	e.Proxy = e.Realm.AddUser(Account, Password, with.Proxy...)
	e.Web = e.Realm.AddService(Service, with.Web...)
	e.Keytab = e.Write(Account+".keytab", e.KeysOf(e.Proxy))
	for _, other := range with.Trusts {
		kdctest.Trust(e.Realm, other)
	}
	with.KDC.Realms = append([]*kdctest.Realm{e.Realm}, with.Trusts...)
	e.KDC = StartKDC(t, with.KDC)
	with.Acceptor.Keytab = e.KeysOf(e.Web)
	e.Acceptor, e.Upstream = StartUpstream(t, with.Acceptor, with.Upstream)
	return e
}

// Login are the lines of a block that log in with the keytab, and more.
func (e *Env) Login(more ...string) []string {
	return append([]string{"kdc " + e.KDC.Addr(), "user " + Principal, "keytab " + e.Keytab}, more...)
}

// KeysOf is a keytab with the principals' keys.
func (e *Env) KeysOf(p ...*kdctest.Principal) []byte {
	e.T.Helper()
	return KeysOf(e.T, e.Realm, p...)
}

// ChangeServiceKey gives the web server a new key, which the upstream knows and no
// ticket has been issued for.
func (e *Env) ChangeServiceKey() {
	e.T.Helper()
	e.Web.ChangeKey(false)
	keys := e.KeysOf(e.Web)
	e.UpdateAcceptor(func(c *kdctest.AcceptorConfig) { c.Keytab = keys })
}

// UpdateAcceptor changes what the upstream accepts.
func (e *Env) UpdateAcceptor(change func(*kdctest.AcceptorConfig)) {
	e.T.Helper()
	if err := e.Acceptor.Update(change); err != nil {
		e.T.Fatal(err)
	}
}

// WantCounts fails unless the KDC issued so many TGTs and service tickets.
func (e *Env) WantCounts(logins, tickets int) {
	e.T.Helper()
	if c := e.KDC.Counts(); c.ASRep != logins || c.TGSRep != tickets {
		e.T.Fatalf("%d logins and %d tickets %v, want %d and %d", c.ASRep, c.TGSRep, c.Services, logins, tickets)
	}
}

// KeysOf is a keytab with keys of a realm.
func KeysOf(t *testing.T, realm *kdctest.Realm, p ...*kdctest.Principal) []byte {
	t.Helper()
	keys, err := realm.Keytab(p...)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// StartKDC runs a KDC until the test ends.
func StartKDC(t *testing.T, with kdctest.Config) *kdctest.KDC {
	t.Helper()
	k := kdctest.NewKDC(with)
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	return k
}

// StartUpstream runs a web server that demands Kerberos until the test ends.
func StartUpstream(t *testing.T, accepts kdctest.AcceptorConfig, with kdctest.UpstreamConfig) (*kdctest.Acceptor, *kdctest.Upstream) {
	t.Helper()
	acceptor, err := kdctest.NewAcceptor(accepts)
	if err != nil {
		t.Fatal(err)
	}
	with.Acceptor = acceptor
	u := kdctest.NewUpstream(with)
	if err := u.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Stop)
	return acceptor, u
}

// Serve runs a web server without Kerberos until the test ends and returns its address.
func Serve(t *testing.T, server *http.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

// StartDNS runs a name server that answers from hosts (name to IP address), or with
// 127.0.0.1 to everything if hosts is nil, and returns its address.
func StartDNS(t *testing.T, hosts map[string]string) string {
	t.Helper()
	address, stop, err := kdctest.StartNameServer(func(host string) (netip.Addr, bool) {
		ip, err := netip.ParseAddr(hosts[host])
		if hosts == nil {
			ip, err = netip.ParseAddr("127.0.0.1")
		}
		return ip, err == nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return address
}

// FreeAddress is a loopback address that nothing listens on. It is reserved until the
// test ends.
func FreeAddress(t *testing.T) string {
	t.Helper()
	address, release, err := kdctest.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return address
}

// Port is the port of an address.
func Port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// WriteFile writes a file that only its owner can read, and returns its path.
func WriteFile(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ReplaceFile replaces a file at once, as rename does.
func ReplaceFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.Rename(WriteFile(t, path+".new", content), path); err != nil {
		t.Fatal(err)
	}
}

// ReadFile reads a file.
func ReadFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
