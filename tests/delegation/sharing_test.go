package delegation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

const (
	sharing    = "share_connections"
	nowShared  = "users share connections to the upstream"
	noneShared = "has not proven a token on a connection that users share"
)

// as asks as a user and returns whom the upstream took the request for, and over which
// connection.
func (e *env) as(name, method string, change ...func(*http.Request)) kdctest.Peer {
	e.T.Helper()
	a := caddytest.Do(e.T, e.Request(method, "/json", append(change, asUser(name))...))
	if a.Status != http.StatusOK {
		e.T.Fatalf("%s: %v", name, a)
	}
	return a.Peer(e.T)
}

// learn has users share the upstream's connections.
func (e *env) learn() {
	e.T.Helper()
	for range 2 {
		e.as("alice", http.MethodGet)
	}
	if n := e.Log.Count(nowShared); n != 1 {
		e.T.Fatalf("logged %d times that connections are shared", n)
	}
}

func TestSharing_Connections(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.run(sharing)
	first, second := e.as("alice", http.MethodGet), e.as("bob", http.MethodGet)
	if first.Connection == second.Connection {
		t.Fatal("bob came over the connection of alice, before that was proven to be allowed")
	}
	e.learn()
	shared := e.as("bob", http.MethodGet).Connection
	for _, name := range []string{"alice", "bob", "carol"} {
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			if who := e.as(name, method); who.User != name || who.Connection != shared {
				t.Errorf("%s of %s came over connection %d as %s, want connection %d", method, name, who.Connection, who.User, shared)
			}
		}
		for what, change := range map[string]func(*http.Request){
			"POST":            func(r *http.Request) { r.Method = http.MethodPost },
			"GET with a body": func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), 1 },
			"upgrade":         func(r *http.Request) { r.Header.Set("Connection", "Upgrade"); r.Header.Set("Upgrade", "x") },
		} {
			if who := e.as(name, http.MethodGet, change); who.User != name || who.Connection == shared {
				t.Errorf("%s of %s came over connection %d as %s", what, name, who.Connection, who.User)
			}
		}
	}
	if n := e.Acceptor.Counts(); n.Missing > 0 || len(n.Refused) > 0 {
		t.Errorf("%+v", n)
	}
}

func TestSharing_OffByDefault(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.run()
	for range 3 {
		if e.as("alice", http.MethodGet).Connection == e.as("bob", http.MethodGet).Connection {
			t.Fatal("alice and bob share a connection")
		}
	}
}

// An upstream that binds connections proves the first token of each: not two of one user
// on one connection. No request may be served as another's, counted at the upstream.
func TestSharing_NotLearntFromSeveralUsers(t *testing.T) {
	e := newEnv(t, caddytest.Options{Acceptor: kdctest.AcceptorConfig{Sticky: kdctest.StickyUnread}})
	e.run(sharing)
	names := []string{"alice", "bob", "carol"}
	client := e.Client()
	caddytest.All(t, 300, 8, func(i int) error { return e.askAs(client, names[i%len(names)], http.MethodGet) })
	if n := e.Acceptor.Counts(); n.Misattributed > 0 || e.Log.Contains(nowShared) {
		t.Errorf("%d requests were served as another user's", n.Misattributed)
	}
}

// askAs fails unless the upstream serves a request as the user's.
func (e *env) askAs(client *http.Client, name, method string) error {
	a, err := caddytest.Ask(client, e.Request(method, "/json", asUser(name)))
	if err != nil {
		return err
	}
	var who kdctest.Peer
	if err := json.Unmarshal([]byte(a.Body), &who); err != nil {
		return fmt.Errorf("%v: %w", a, err)
	}
	if who.Principal != name+"@"+corpRealm {
		return fmt.Errorf("%s of %s was served as %s", method, name, who.Principal)
	}
	return nil
}

// The first response without a proof is withheld, its connection closed, and nothing is
// shared until the configuration is loaded again.
func TestSharing_Withdrawn(t *testing.T) {
	for _, mutual := range []string{"on", "required"} {
		e := newEnv(t, caddytest.Options{})
		e.run(sharing, "mutual_auth "+mutual)
		e.learn()
		before := e.as("carol", http.MethodGet).Connection
		e.UpdateAcceptor(func(c *kdctest.AcceptorConfig) { c.Sticky = kdctest.StickyUnread })
		if who := e.as("alice", http.MethodGet); who.User != "alice" || who.Connection != before { // binds it
			t.Fatalf("%s over connection %d", who.User, who.Connection)
		}
		// HEAD: net/http would keep the connection of a response without a body.
		if a := caddytest.Do(t, e.Request(http.MethodHead, "/json", asUser("bob"))); a.Status != http.StatusOK {
			t.Errorf("HEAD of bob: %v", a)
		}
		e.Log.Await(t, noneShared, 1)
		caddytest.WaitFor(t, "the shared connection is closed", func() bool { return e.Upstream.Open.Load() == e.Upstream.Connections.Load()-1 })
		if n := e.Acceptor.Counts(); n.Misattributed != 1 {
			t.Errorf("%d requests were served as another's, want one, withheld", n.Misattributed)
		}
		if mutual == "on" { // else bob's own connection does not suffice either
			if who := e.as("bob", http.MethodGet); who.User != "bob" || who.Connection == before {
				t.Errorf("bob came as %s over connection %d", who.User, who.Connection)
			}
		}

		e.UpdateAcceptor(func(c *kdctest.AcceptorConfig) { c.Sticky = kdctest.StickyNever })
		alice, bob := e.as("alice", http.MethodGet), e.as("bob", http.MethodGet)
		for range 3 {
			if again := e.as("alice", http.MethodGet); again.Connection != alice.Connection || alice.Connection == bob.Connection {
				t.Errorf("alice came over connections %d and %d, bob over %d", alice.Connection, again.Connection, bob.Connection)
			}
		}
		e.run(sharing)
		for range 2 {
			e.as("alice", http.MethodGet)
		}
		if n := e.Log.Count(nowShared); n != 2 {
			t.Errorf("after loading the configuration again, logged %d times that connections are shared", n)
		}
	}
}

// A refusal without a proof is withheld like any response: the upstream may have refused
// another user. The repeat on the user's own connection gets a new ticket.
func TestSharing_RefusalWithoutProof(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.run(sharing)
	e.learn()
	if a := e.Get("/forbidden", asUser("bob")); a.Status != http.StatusUnauthorized || e.Log.Contains(noneShared) {
		t.Errorf("a refusal with the proof: %v", a)
	}
	e.ChangeServiceKey()
	e.getAs("bob").WantUser(t, "bob@"+corpRealm)
	if !e.Log.Contains(noneShared) {
		t.Error("connections are shared after a response without a proof")
	}
}

// Informational responses have no proof: they may be another user's.
func TestSharing_InformationalResponses(t *testing.T) {
	e := newEnv(t, caddytest.Options{Upstream: kdctest.UpstreamConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := kdctest.PeerFrom(r.Context())
		w.Header().Set("Link", "</of-"+who.User+".css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		kdctest.WhoHandler(w, r)
	})}})
	e.run(sharing)
	hints := func(name string) int {
		seen := 0
		r := e.Request(http.MethodGet, "/json", asUser(name))
		client := e.Client()
		res, err := client.Do(r.WithContext(onInformational(r.Context(), func() { seen++ })))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return seen
	}
	if n := hints("alice"); n != 1 {
		t.Fatalf("%d informational responses on the user's own connection", n)
	}
	hints("alice")
	e.Log.Await(t, nowShared, 1)
	if n := hints("bob"); n != 0 {
		t.Errorf("%d informational responses on a shared connection", n)
	}
}

// onInformational calls f for each informational response.
func onInformational(ctx context.Context, f func()) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
		f()
		return nil
	}})
}

// What a proof cannot show: an upstream that reads each token, proves it, and takes the
// request for the first user's all the same (docs/delegation.md says so).
func TestSharing_FaultyUpstream(t *testing.T) {
	e := newEnv(t, caddytest.Options{Acceptor: kdctest.AcceptorConfig{Sticky: kdctest.StickyUser}})
	e.run(sharing)
	e.learn()
	if who := e.as("bob", http.MethodGet); who.User != "bob" { // the first on the shared connection
		t.Errorf("bob came as %s", who.User)
	}
	if who := e.as("carol", http.MethodGet); who.User != "bob" || e.Log.Contains(noneShared) {
		t.Errorf("carol came as %s: the proof has become better than its description", who.User)
	}
}

func TestSharing_RejectedAtLoad(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	for lines, want := range map[string]string{
		byHeader + "\nshare_connections\nmutual_auth off": "remove mutual_auth off",
		"share_connections":                          "requires impersonate",
		"user_connections 10":                        "requires impersonate",
		byHeader + "\nuser_connections 0":            "user_connections",
		byHeader + "\nuser_connections 1000001":      "user_connections",
		byHeader + "\nuser_connections":              "user_connections",
		byHeader + "\nshare_connections perhaps":     "share_connections",
		byHeader + "\nshare_connections\nversions 2": "impersonate needs HTTP/1.1",
	} {
		err := caddytest.TryLoad(t, config(&e.Caddy, "", caddytest.Block("reverse_proxy "+e.Upstream.Addr(), e.transport("spn "+webSPN, lines))))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", lines, err, want)
		}
	}
	e.run("share_connections off", "mutual_auth off", "user_connections 1000000")
}

// tlsEnv is an env with so many users and an upstream with TLS.
func tlsEnv(t *testing.T, users int, with caddytest.Options) *env {
	t.Helper()
	authority := caddytest.NewAuthority(t)
	with.Upstream.Certificate = authority.Server("web.corp.example")
	e := newEnv(t, with)
	for i := range users {
		e.Realm.AddService(userName(i))
	}
	if err := e.Realm.Err(); err != nil {
		t.Fatal(err)
	}
	e.Write("authority.pem", authority.PEM())
	return e
}

// runTLS proxies to the upstream, or to another one, over TLS.
func (e *env) runTLS(address, certificates string, more ...string) {
	e.T.Helper()
	e.Addr = caddytest.FreeAddress(e.T)
	load(&e.Caddy, "", caddytest.Block("reverse_proxy https://"+address, e.transport(append([]string{
		"spn " + webSPN, byHeader, "tls_server_name web.corp.example", "tls_trust_pool file " + certificates,
	}, more...)...)))
}

// requests is how many requests the random tests make.
func requests() int { return caddytest.Long(1000, 1_000_000) }

func users() int { return caddytest.Long(100, 1000) }

// Users drawn at random; no answer is another's, and nothing is served as another's.
func TestSharing_Random(t *testing.T) {
	e := tlsEnv(t, users(), caddytest.Options{})
	e.runTLS(e.Upstream.Addr(), e.Dir+"/authority.pem", sharing)
	client := e.Client()
	caddytest.All(t, requests(), 16, func(i int) error { return e.askAs(client, userName(rand.IntN(users())), methodOf(i)) })
	if !e.Log.Contains(nowShared) || e.Log.Contains(noneShared) {
		t.Error("connections were not shared")
	}
	t.Logf("%d requests over %d connections, %d handshakes resumed", requests(), e.Upstream.Connections.Load(), e.Upstream.Resumptions.Load())
}

// methodOf has one request in ten change something.
func methodOf(i int) string {
	if i%10 == 9 {
		return http.MethodPost
	}
	return http.MethodGet
}

// An upstream that begins to bind connections in the middle of the run: sharing ends
// within one request per connection.
func TestSharing_RandomWithdrawn(t *testing.T) {
	const width = 16
	e := tlsEnv(t, users(), caddytest.Options{})
	e.runTLS(e.Upstream.Addr(), e.Dir+"/authority.pem", sharing)
	client := e.Client()
	caddytest.All(t, requests(), width, func(i int) error {
		if i == requests()/2 {
			e.UpdateAcceptor(func(c *kdctest.AcceptorConfig) { c.Sticky = kdctest.StickyUnread })
		}
		return e.askAs(client, userName(rand.IntN(users())), methodOf(i))
	})
	n := e.Acceptor.Counts()
	t.Logf("%d requests over %d connections; %d served as another's, and withheld", requests(), e.Upstream.Connections.Load(), n.Misattributed)
	if n.MisattributedUnsafe > 0 || n.Misattributed > width {
		t.Errorf("%d requests were served as another's, %d of which may change something; want %d and 0 at most", n.Misattributed, n.MisattributedUnsafe, width)
	}
	if !e.Log.Contains(nowShared) || e.Log.Count(noneShared) != 1 {
		t.Error("connections were not shared and then not shared any more")
	}
}

// apacheRealm is the environment's realm as an Apache needs it.
type apacheRealm struct {
	lab.Realm // for what is not needed
	env       *env
	conf      string
}

// newApacheRealm writes a krb5.conf that Apache's workers can read.
func newApacheRealm(e *env) *apacheRealm {
	e.T.Helper()
	dir := must.OK(os.MkdirTemp("", "realm-"))(e.T)
	e.T.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &apacheRealm{env: e, conf: filepath.Join(dir, "krb5.conf")}
	text := "[libdefaults]\n default_realm = " + corpRealm + "\n dns_lookup_kdc = false\n"
	must.Do(e.T, errors.Join(os.Chmod(dir, 0o755), os.WriteFile(r.conf, []byte(text), 0o644)))
	return r
}

func (r *apacheRealm) Name() string     { return corpRealm }
func (r *apacheRealm) KDC() string      { return r.env.KDC.Addr() }
func (r *apacheRealm) Krb5Conf() string { return r.conf }

func (r *apacheRealm) Keytab(_ testing.TB, principals ...string) string {
	var list []*kdctest.Principal
	for _, name := range principals {
		list = append(list, r.env.Realm.Principal(name))
	}
	return r.env.Write("apache.keytab", r.env.KeysOf(list...))
}

// Apache with mod_auth_gssapi authenticates each request by its token, also where it
// binds connections.
func TestSharing_RandomAtApache(t *testing.T) {
	lab.Require(t, lab.HTTPD)
	e := tlsEnv(t, users(), caddytest.Options{})
	apache := lab.StartApache(t, lab.ApacheOptions{Realm: newApacheRealm(e), Hosts: []string{"web.corp.example"}, Lasting: true})
	e.runTLS(apache.TLSAddr(), apache.CertFile(), sharing)
	client := e.Client()
	caddytest.All(t, requests(), 16, func(i int) error {
		name, path := userName(rand.IntN(users())), "/"
		if i%2 == 1 {
			path = "/bound/"
		}
		a, err := caddytest.Ask(client, e.Request(http.MethodGet, path, asUser(name)))
		if err != nil {
			return err
		}
		if got := a.Header.Get("X-Remote-User"); a.Status != http.StatusOK || got != name+"@"+corpRealm {
			return fmt.Errorf("%s: %v as %q", name, a, got)
		}
		return nil
	})
	if !e.Log.Contains(nowShared) || e.Log.Contains(noneShared) {
		t.Error("connections were not shared")
	}
}
