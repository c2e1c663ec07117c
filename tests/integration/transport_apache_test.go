package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

const labRealm = "LAB.TEST"

// apacheSite is Caddy in front of a real KDC and real Apaches.
type apacheSite struct {
	*site
	KDC *lab.MIT
}

// newApacheSite starts the KDC. Its accounts are svc-proxy and svc-other.
func newApacheSite(t *testing.T) *apacheSite {
	t.Helper()
	l := &apacheSite{site: &site{Env: caddytest.Env{Caddy: caddytest.New(t)}}}
	l.KDC = lab.StartMIT(t, lab.MITOptions{Realm: labRealm, Principals: []lab.Principal{
		{Name: account}, {Name: "svc-other"}, {Name: "HTTP/a.lab.test"}, {Name: "HTTP/b.lab.test"},
	}})
	l.Keytab = l.KDC.Keytab(t, account)
	return l
}

// apache starts one that is the host, and says under which name Caddy reaches it.
func (l *apacheSite) apache(host string, opts lab.ApacheOptions) (a *lab.Apache, upstream string) {
	l.T.Helper()
	opts.Realm, opts.Hosts = l.KDC, []string{host}
	a = lab.StartApache(l.T, opts)
	_, port, _ := strings.Cut(a.Addr(), ":")
	return a, host + ":" + port
}

// resolvers is a line that lets Caddy find the hosts.
func (l *apacheSite) resolvers() string {
	return "resolvers " + caddytest.StartDNS(l.T, map[string]string{"a.lab.test": lab.Host(), "b.lab.test": lab.Host()})
}

func (l *apacheSite) account(name, keytab string) []string {
	return []string{"kdc " + l.KDC.KDC(), "user " + name + "@" + labRealm, "keytab " + keytab}
}

func (l *apacheSite) negotiating(more ...string) string {
	return caddytest.Block("transport negotiate", append(l.account(account, l.Keytab), more...)...)
}

// wantTokens fails unless Apache authenticated n requests, each with a token of its own.
func (l *apacheSite) wantTokens(n int, apaches ...*lab.Apache) {
	l.T.Helper()
	// Apache writes a line after it has answered.
	caddytest.WaitFor(l.T, "Apache has logged the requests", func() bool {
		lines := 0
		for _, a := range apaches {
			lines += len(a.Accesses(l.T, 1))
		}
		return lines >= n
	})
	seen := make(map[string]bool)
	in := 0
	for _, a := range apaches {
		for _, r := range a.Accesses(l.T, 1) {
			switch {
			case r.Status == http.StatusUnauthorized || r.Status == http.StatusBadRequest:
				l.T.Errorf("refused: %d %s %s", r.Status, r.Method, r.URI)
			case seen[r.Authorization]:
				l.T.Errorf("a token came twice, with %s %s", r.Method, r.URI)
			default:
				in++
			}
			seen[r.Authorization] = true
		}
		if n := a.Replays(l.T); n > 0 {
			l.T.Errorf("Apache saw %d replays", n)
		}
	}
	if in < n {
		l.T.Errorf("%d requests came in, want %d", in, n)
	}
}

func isOK(a caddytest.Answer) bool { return a.Status == http.StatusOK }

// isPlainRefusal reports whether an answer is the upstream's 401, without a challenge.
func isPlainRefusal(a caddytest.Answer) bool {
	return a.Status == http.StatusUnauthorized && len(a.Header.Values("WWW-Authenticate")) == 0
}

func (l *apacheSite) ask(client *http.Client, method, path string, body io.Reader) error {
	r, err := http.NewRequestWithContext(l.T.Context(), method, l.URL(path), body)
	if err != nil {
		return err
	}
	a, err := caddytest.Ask(client, r)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("%s: %d %q", method, a.Status, a.Body)
	}
	return err
}

func TestApache_TwoServices(t *testing.T) {
	l := newApacheSite(t)
	a, atA := l.apache("a.lab.test", lab.ApacheOptions{})
	b, atB := l.apache("b.lab.test", lab.ApacheOptions{})
	caddytest.Load(l.T, l.config("", proxying(atA+" "+atB, "lb_policy random", l.negotiating(l.resolvers()))))
	l.GetMany(1000, 16, "/", isOK)
	na, nb := len(a.Accesses(t, 1)), len(b.Accesses(t, 1))
	if na < 300 || nb < 300 {
		t.Errorf("%d and %d requests, want both to be asked", na, nb)
	}
	l.wantTokens(1000, a, b)
	if n := l.KDC.Tickets(t, "HTTP/a.lab.test@"+labRealm) + l.KDC.Tickets(t, "HTTP/b.lab.test@"+labRealm); n != 2 {
		t.Errorf("%d tickets, want 2", n)
	}
}

func TestApache_KilledUnderLoad(t *testing.T) {
	l := newApacheSite(t)
	a, atA := l.apache("a.lab.test", lab.ApacheOptions{})
	b, atB := l.apache("b.lab.test", lab.ApacheOptions{})
	caddytest.Load(l.T, l.config("", proxying(atA+" "+atB, "lb_policy round_robin", "lb_retries 3", "fail_duration 1h",
		l.negotiating(l.resolvers()))))
	client := l.Client()
	var once sync.Once
	caddytest.All(t, 400, 8, func(i int) error {
		if i == 100 {
			once.Do(a.Stop)
		}
		return l.ask(client, http.MethodGet, "/", nil)
	})
	caddytest.All(t, 50, 4, func(int) error {
		return l.ask(client, http.MethodPost, "/echo", strings.NewReader(strings.Repeat("x", 1000)))
	})
	l.wantTokens(300, b)
	if n := a.Replays(t); n > 0 {
		t.Errorf("Apache saw %d replays", n)
	}
}

// Apache closes connections that were idle for a moment, while Caddy takes them for
// alive and sends requests on them.
func TestApache_IdleConnectionsClosed(t *testing.T) {
	l := newApacheSite(t)
	a, at := l.apache("a.lab.test", lab.ApacheOptions{Extra: []string{"KeepAliveTimeout 1ms"}})
	caddytest.Load(l.T, l.config("", proxying(at, l.negotiating(l.resolvers()))))
	ports := make(map[int]bool)
	sent := 0
	for ; len(ports) < 10 && sent < 10_000; sent += 500 { // until enough were closed, however fast all is
		l.GetMany(500, 4, "/", isOK)
		for _, r := range a.Accesses(t, sent+500) {
			ports[r.RemotePort] = true
		}
	}
	l.wantTokens(sent, a)
	if len(ports) < 10 {
		t.Errorf("%d connections: none was closed", len(ports))
	}
}

func TestApache_ConnectionsPerIdentity(t *testing.T) {
	l := newApacheSite(t)
	a, at := l.apache("a.lab.test", lab.ApacheOptions{})
	second := caddytest.FreeAddress(t)
	resolvers := l.resolvers()
	to := func(identity string) string {
		return proxying(at, caddytest.Block("transport negotiate "+identity, resolvers, "per_connection"))
	}
	global := caddytest.Block("kerberos",
		caddytest.Block("identity one", l.account(account, l.Keytab)...),
		caddytest.Block("identity two", l.account("svc-other", l.KDC.Keytab(t, "svc-other"))...))
	caddytest.Load(l.T, l.config(global, to("one"))+caddytest.Site(second, to("two")))
	client := l.Client()
	users := []string{account + "@" + labRealm, "svc-other@" + labRealm}
	caddytest.All(t, 600, 16, func(i int) error {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+[]string{l.Addr, second}[i%2]+"/bound/", nil)
		if err != nil {
			return err
		}
		answer, err := caddytest.Ask(client, r)
		if err == nil && answer.Header.Get("X-Remote-User") != users[i%2] {
			err = fmt.Errorf("%d, Apache saw %q, want %s", answer.Status, answer.Header.Get("X-Remote-User"), users[i%2])
		}
		return err
	})
	riders := make(map[int]map[string]bool)
	bare := 0
	for _, r := range a.Accesses(t, 600) {
		if riders[r.RemotePort] == nil {
			riders[r.RemotePort] = make(map[string]bool)
		}
		if r.User != "" {
			riders[r.RemotePort][r.User] = true
		}
		if r.Authorization == "" {
			bare++
		}
	}
	for port, who := range riders {
		if len(who) > 1 {
			t.Errorf("the connection from port %d carried %v", port, who)
		}
	}
	if bare < 300 {
		t.Errorf("%d requests came without a token: the connections were not bound", bare)
	}
}

func TestApache_ChangedKeyUnderLoad(t *testing.T) {
	l := newApacheSite(t)
	a, at := l.apache("a.lab.test", lab.ApacheOptions{})
	caddytest.Load(l.T, l.config("", proxying(at, l.negotiating(l.resolvers()))))
	l.GetMany(1, 1, "/", isOK)
	l.KDC.Kadmin(t, "cpw -randkey HTTP/a.lab.test")
	a.ReloadKeytab(t)
	l.GetMany(300, 8, "/", isOK)
	if n := l.KDC.Tickets(t, "HTTP/a.lab.test@"+labRealm); n != 2 {
		t.Errorf("%d tickets, want the old and one new", n)
	}
}

func TestApache_RefusesGoodTokens(t *testing.T) {
	l := newApacheSite(t)
	_, at := l.apache("a.lab.test", lab.ApacheOptions{})
	caddytest.Load(l.T, l.config("", proxying(at, l.negotiating(l.resolvers()))))
	l.GetMany(500, 8, "/denied/", isPlainRefusal)
	if n := l.KDC.Tickets(t, "HTTP/a.lab.test@"+labRealm); n > 1+3+1 {
		t.Errorf("%d tickets for 500 refusals", n)
	}
}

func TestApache_BodiesStreamsWebSockets(t *testing.T) {
	l := newApacheSite(t)
	steps := make(chan string, 1)
	_, at := l.apache("a.lab.test", lab.ApacheOptions{Backend: behindApache(t, steps)})
	// Apache's 101 of its backend has no AP-REP: it cannot be required.
	caddytest.Load(l.T, l.config("", proxying(at, l.negotiating(l.resolvers(), "mutual_auth on"))))

	body := bytes.Repeat([]byte("0123456789"), 30_000)
	sum := sha256.Sum256(body)
	for name, reader := range map[string]io.Reader{"with length": bytes.NewReader(body), "chunked": struct{ io.Reader }{bytes.NewReader(body)}} {
		got := lab.ParseEcho([]byte(l.post("/echo", reader).Body))
		if got["BODY_SHA256"] != hex.EncodeToString(sum[:]) || got["REMOTE_USER"] != account+"@"+labRealm {
			t.Errorf("%s: Apache got %q of %q", name, got["BODY_SHA256"], got["REMOTE_USER"])
		}
	}
	steps <- "one"
	wantStream(t, l.Client(), l.URL("/app/stream"), func(line string) { steps <- line })
	wantWebSocket(t, l.Client(), l.URL("/app/ws"))
}

// behindApache is a server that echoes WebSocket frames at /ws, and at /stream
// sends lines as they come, until an empty one.
func behindApache(t *testing.T, lines <-chan string) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", kdctest.EchoWebSocket)
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case line := <-lines:
				if line == "" {
					return
				}
				_, _ = io.WriteString(w, line+"\n")
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	l, err := net.Listen("tcp", net.JoinHostPort(lab.Host(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}
