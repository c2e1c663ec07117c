package docs

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestMain(m *testing.M) { caddytest.Main(m) }

// env is the network that an example takes for granted: its realm with a KDC, its
// upstreams, and a name server by which all hosts are here.
type env struct {
	t      *testing.T
	realm  *kdctest.Realm
	kdc    *kdctest.KDC
	folder *folder
	ca     *caddytest.Authority
	dns    string
}

func newEnv(t *testing.T) *env {
	t.Helper()
	e := &env{t: t, ca: caddytest.NewAuthority(t), dns: caddytest.StartDNS(t, nil)}
	e.realm, e.folder = corporate(t)
	e.folder.put("corp-ca.pem", e.ca.PEM())
	e.startKDC(e.realm)
	return e
}

func (e *env) startKDC(realm *kdctest.Realm) {
	e.t.Helper()
	e.realm = realm
	e.kdc = caddytest.StartKDC(e.t, kdctest.Config{Realms: []*kdctest.Realm{realm}})
}

// upstream starts a server for a host that has its SPN; over TLS if overTLS is set.
func (e *env) upstream(host string, overTLS bool, handler http.Handler) *kdctest.Upstream {
	e.t.Helper()
	accepts := kdctest.AcceptorConfig{Keytab: caddytest.KeysOf(e.t, e.realm, e.realm.AddService("HTTP/"+host))}
	with := kdctest.UpstreamConfig{Handler: handler}
	if overTLS {
		with.Certificate, accepts.Bindings = e.ca.Server(host), kdctest.BindingsRequire
	}
	_, u := caddytest.StartUpstream(e.t, accepts, with)
	return u
}

// port is a server's.
func port(u *kdctest.Upstream) string { return caddytest.Port(u.Addr()) }

// run runs an example with its addresses replaced: old text and new text, by turns. The
// old text has to be there.
func (e *env) run(example string, replace ...string) {
	e.t.Helper()
	e.runText(read(e.t, example), replace...)
}

func (e *env) runText(text string, replace ...string) {
	e.t.Helper()
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			e.t.Fatalf("the example does not say %q", replace[i])
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	text, err := fillIn(text, environment)
	if err != nil {
		e.t.Fatal(err)
	}
	adapted, err := adapt(e.folder.paths(text))
	if err != nil {
		e.t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(adapted, &config); err != nil {
		e.t.Fatal(err)
	}
	config["admin"] = map[string]any{"disabled": true, "config": map[string]any{"persist": false}}
	if config["storage"] == nil {
		config["storage"] = map[string]any{"module": "file_system", "root": e.t.TempDir()}
	}
	e.useDNS(config)
	done, err := json.Marshal(config)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := caddytest.TryLoadJSON(e.t, done); err != nil {
		e.t.Fatal(err)
	}
}

// useDNS has every transport ask the test's name server. Addresses in place of the
// upstreams' names would change the SPNs.
func (e *env) useDNS(v any) {
	switch v := v.(type) {
	case map[string]any:
		if v["handler"] == "reverse_proxy" {
			v["transport"].(map[string]any)["resolver"] = map[string]any{"addresses": []string{e.dns}}
		}
		for _, in := range v {
			e.useDNS(in)
		}
	case []any:
		for _, in := range v {
			e.useDNS(in)
		}
	}
}

// get asks Caddy for a URL.
func (e *env) get(url string, change ...func(*http.Request)) caddytest.Answer {
	e.t.Helper()
	return caddytest.Do(e.t, caddytest.Request(e.t, http.MethodGet, url, change...))
}

// want fails unless Caddy answers so.
func (e *env) want(url string, status int, body string) {
	e.t.Helper()
	if a := e.get(url); a.Status != status || strings.TrimSpace(a.Body) != body {
		e.t.Fatalf("%s: %v, want %d %q", url, a, status, body)
	}
}

// host answers with the user and its own name.
func host(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if peer, ok := kdctest.PeerFrom(r.Context()); ok {
			fmt.Fprintf(w, "%s at %s", peer.Principal, name)
		}
	})
}

// awaitLine reads a log until a line has a text, for a minute at most, and keeps reading. It returns
// what was logged until then.
func awaitLine(t *testing.T, log io.ReadCloser, text string) string {
	t.Helper()
	defer time.AfterFunc(time.Minute, func() { _ = log.Close() }).Stop()
	var said strings.Builder
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), text) {
			go func() {
				for lines.Scan() {
				}
			}()
			return said.String()
		}
	}
	t.Fatalf("the log never said %q:\n%s", text, said.String())
	return ""
}
