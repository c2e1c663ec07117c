package docs

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// A stage is the network that an example takes for granted: its realm with a KDC, its
// upstreams, and a DNS in which all hosts are here.
type stage struct {
	t     *testing.T
	realm *kdctest.Realm
	kdc   *kdctest.KDC
	files *cabinet
	ca    *authority
	dns   string

	transport http.Transport
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, ca: newAuthority(t), dns: nameServer(t)}
	t.Cleanup(s.transport.CloseIdleConnections)
	s.realm, s.files = corporate(t)
	s.files.put("corp-ca.pem", s.ca.pem())
	s.startKDC(s.realm)
	return s
}

func (s *stage) startKDC(realm *kdctest.Realm) {
	s.t.Helper()
	s.realm = realm
	s.kdc = kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}})
	if err := s.kdc.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.kdc.Stop)
}

// upstream starts a server for a host that has its SPN; over TLS if cert is set.
func (s *stage) upstream(host string, overTLS bool, handler http.Handler) *kdctest.Upstream {
	s.t.Helper()
	keys, err := s.realm.Keytab(s.realm.AddService("HTTP/" + host))
	if err != nil {
		s.t.Fatal(err)
	}
	config := kdctest.UpstreamConfig{Handler: handler}
	acceptor := kdctest.AcceptorConfig{Keytab: keys}
	if overTLS {
		config.Certificate, acceptor.Bindings = s.ca.server(host), kdctest.BindingsRequire
	}
	if config.Acceptor, err = kdctest.NewAcceptor(acceptor); err != nil {
		s.t.Fatal(err)
	}
	u := kdctest.NewUpstream(config)
	if err := u.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(u.Stop)
	return u
}

// port is a server's.
func port(u *kdctest.Upstream) string {
	_, port, _ := net.SplitHostPort(u.Addr())
	return port
}

// perform runs an example, with its addresses replaced by those of the stage: what is to
// be replaced, and by what, by turns. Each has to be there.
func (s *stage) perform(example string, replace ...string) {
	s.t.Helper()
	s.performText(read(s.t, example), replace...)
}

func (s *stage) performText(text string, replace ...string) {
	s.t.Helper()
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			s.t.Fatalf("the example does not say %q", replace[i])
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	text, err := fillIn(text, environment)
	if err != nil {
		s.t.Fatal(err)
	}
	adapted, err := adapt(s.files.take(text))
	if err != nil {
		s.t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(adapted, &config); err != nil {
		s.t.Fatal(err)
	}
	config["admin"] = map[string]any{"disabled": true, "config": map[string]any{"persist": false}}
	config["storage"] = map[string]any{"module": "file_system", "root": s.t.TempDir()}
	s.resolveHere(config)
	done, err := json.Marshal(config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = caddy.Stop() })
	if err := caddy.Load(done, true); err != nil {
		s.t.Fatal(err)
	}
	s.transport.CloseIdleConnections() // they are of the configuration before
}

// resolveHere has every transport ask our DNS. An SPN is made of the upstream's name,
// which an address in its place would change.
func (s *stage) resolveHere(v any) {
	switch v := v.(type) {
	case map[string]any:
		if v["handler"] == "reverse_proxy" {
			v["transport"].(map[string]any)["resolver"] = map[string]any{"addresses": []string{s.dns}}
		}
		for _, in := range v {
			s.resolveHere(in)
		}
	case []any:
		for _, in := range v {
			s.resolveHere(in)
		}
	}
}

// freeAddress is a loopback address on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, release, err := kdctest.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return address
}

// get asks Caddy for a URL.
func (s *stage) get(url string, change ...func(*http.Request)) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range change {
		c(r)
	}
	res, err := (&http.Client{Transport: &s.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res, string(body)
}

// want fails unless Caddy answers so.
func (s *stage) want(url string, status int, body string) {
	s.t.Helper()
	if res, got := s.get(url); res.StatusCode != status || strings.TrimSpace(got) != body {
		s.t.Fatalf("%s: %d %q, want %d %q", url, res.StatusCode, got, status, body)
	}
}

// host answers who came, and to whom.
func host(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if peer, ok := kdctest.PeerFrom(r.Context()); ok {
			fmt.Fprintf(w, "%s at %s", peer.Principal, name)
		}
	})
}

// nameServer is a DNS server that gives its own address for every host, and its address.
func nameServer(t *testing.T) string {
	t.Helper()
	here := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	address, stop, err := kdctest.StartNameServer(func(string) (netip.Addr, bool) { return here, true })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return address
}

// awaitLine reads a log until a line has a text, and goes on reading.
func awaitLine(t *testing.T, log io.Reader, text string) {
	t.Helper()
	var said strings.Builder
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), text) {
			go func() {
				for lines.Scan() {
				}
			}()
			return
		}
	}
	t.Fatalf("the log never said %q:\n%s", text, said.String())
}
