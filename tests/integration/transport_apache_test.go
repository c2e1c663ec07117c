package integration

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

const labRealm = "LAB.TEST"

// intranet is Caddy in front of a real KDC and real Apaches.
type intranet struct {
	*site
	kdc *lab.MIT
}

// newIntranet starts the KDC. Its accounts are svc-proxy and svc-other.
func newIntranet(t *testing.T) *intranet {
	t.Helper()
	l := &intranet{site: &site{t: t, folder: t.TempDir(), log: newCapture(t), address: freeAddress(t)}}
	l.kdc = lab.StartMIT(t, lab.MITOptions{Realm: labRealm, Principals: []lab.Principal{
		{Name: account}, {Name: "svc-other"}, {Name: "HTTP/a.lab.test"}, {Name: "HTTP/b.lab.test"},
	}})
	l.keytab = l.kdc.Keytab(t, account)
	return l
}

// apache starts one that is the host, and says under which name Caddy reaches it.
func (l *intranet) apache(host string, opts lab.ApacheOptions) (a *lab.Apache, upstream string) {
	l.t.Helper()
	opts.Realm, opts.Hosts = l.kdc, []string{host}
	a = lab.StartApache(l.t, opts)
	_, port, _ := strings.Cut(a.Addr(), ":")
	return a, host + ":" + port
}

// resolvers is a line that lets Caddy find the hosts.
func (l *intranet) resolvers() string {
	return "resolvers " + nameServer(l.t, map[string]string{"a.lab.test": lab.Host(), "b.lab.test": lab.Host()})
}

func (l *intranet) account(name, keytab string) []string {
	return []string{"kdc " + l.kdc.KDC(), "user " + name + "@" + labRealm, "keytab " + keytab}
}

func (l *intranet) negotiating(more ...string) string {
	return block("transport negotiate", append(l.account(account, l.keytab), more...)...)
}

// wantTokens fails unless Apache let in n requests, each with a token of its own.
func (l *intranet) wantTokens(n int, apaches ...*lab.Apache) {
	l.t.Helper()
	l.await(n, apaches)
	seen := make(map[string]bool)
	in := 0
	for _, a := range apaches {
		for _, r := range a.Accesses(l.t, 1) {
			switch {
			case r.Status == http.StatusUnauthorized || r.Status == http.StatusBadRequest:
				l.t.Errorf("refused: %d %s %s", r.Status, r.Method, r.URI)
			case seen[r.Authorization]:
				l.t.Errorf("a token came twice, with %s %s", r.Method, r.URI)
			default:
				in++
			}
			seen[r.Authorization] = true
		}
		if n := a.Replays(l.t); n > 0 {
			l.t.Errorf("Apache saw %d replays", n)
		}
	}
	if in < n {
		l.t.Errorf("%d requests came in, want %d", in, n)
	}
}

// await waits until the logs have n lines: Apache writes one after it has answered.
func (l *intranet) await(n int, apaches []*lab.Apache) {
	l.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		lines := 0
		for _, a := range apaches {
			lines += len(a.Accesses(l.t, 1))
		}
		if lines >= n {
			return
		}
	}
}

func (l *intranet) ask(client *http.Client, method, path string, body io.Reader) error {
	r, err := http.NewRequestWithContext(l.t.Context(), method, l.url(path), body)
	if err != nil {
		return err
	}
	a, err := ask(client, r)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("%s: %d %q", method, a.status, a.body)
	}
	return err
}

func TestApacheSeesTwoServicesBehindOneProxy(t *testing.T) {
	l := newIntranet(t)
	a, atA := l.apache("a.lab.test", lab.ApacheOptions{})
	b, atB := l.apache("b.lab.test", lab.ApacheOptions{})
	l.mustLoad(l.config("", proxying(atA+" "+atB, "lb_policy random", l.negotiating(l.resolvers()))))
	client := l.client()
	errs := traffic(1000, 16, func(int) error { return l.ask(client, http.MethodGet, "/", nil) })
	if len(errs) > 0 {
		t.Fatalf("%d requests failed, first: %v", len(errs), errs[0])
	}
	na, nb := len(a.Accesses(t, 1)), len(b.Accesses(t, 1))
	if na < 300 || nb < 300 {
		t.Errorf("%d and %d requests, want both to be asked", na, nb)
	}
	l.wantTokens(1000, a, b)
	if n := l.kdc.Tickets(t, "HTTP/a.lab.test@"+labRealm) + l.kdc.Tickets(t, "HTTP/b.lab.test@"+labRealm); n != 2 {
		t.Errorf("%d tickets, want 2", n)
	}
}

func TestApacheKilledMidwayIsGotOver(t *testing.T) {
	l := newIntranet(t)
	a, atA := l.apache("a.lab.test", lab.ApacheOptions{})
	b, atB := l.apache("b.lab.test", lab.ApacheOptions{})
	l.mustLoad(l.config("", proxying(atA+" "+atB, "lb_policy round_robin", "lb_retries 3", "fail_duration 1h",
		l.negotiating(l.resolvers()))))
	client := l.client()
	var once sync.Once
	errs := traffic(400, 8, func(i int) error {
		if i == 100 {
			once.Do(a.Stop)
		}
		return l.ask(client, http.MethodGet, "/", nil)
	})
	errs = append(errs, traffic(50, 4, func(int) error {
		return l.ask(client, http.MethodPost, "/echo", strings.NewReader(strings.Repeat("x", 1000)))
	})...)
	if len(errs) > 0 {
		t.Fatalf("%d requests failed, first: %v", len(errs), errs[0])
	}
	l.wantTokens(300, b)
	if n := a.Replays(t); n > 0 {
		t.Errorf("Apache saw %d replays", n)
	}
}

// Apache closes connections that were idle for a moment, while Caddy takes them for
// alive and sends requests on them.
func TestApacheThatClosesIdleConnectionsSeesNoReplay(t *testing.T) {
	l := newIntranet(t)
	a, at := l.apache("a.lab.test", lab.ApacheOptions{Extra: []string{"KeepAliveTimeout 1ms"}})
	l.mustLoad(l.config("", proxying(at, l.negotiating(l.resolvers()))))
	client := l.client()
	ports := make(map[int]bool)
	sent := 0
	for ; len(ports) < 10 && sent < 10_000; sent += 500 { // until enough were closed, however fast all is
		errs := traffic(500, 4, func(int) error { return l.ask(client, http.MethodGet, "/", nil) })
		if len(errs) > 0 {
			t.Fatalf("%d requests failed, first: %v", len(errs), errs[0])
		}
		for _, r := range a.Accesses(t, sent+500) {
			ports[r.RemotePort] = true
		}
	}
	l.wantTokens(sent, a)
	if len(ports) < 10 {
		t.Errorf("%d connections: none was closed", len(ports))
	}
}

func TestApacheBindsConnectionsToOneIdentityEach(t *testing.T) {
	l := newIntranet(t)
	a, at := l.apache("a.lab.test", lab.ApacheOptions{})
	second := freeAddress(t)
	resolvers := l.resolvers()
	to := func(identity string) string {
		return proxying(at, block("transport negotiate "+identity, resolvers, "per_connection"))
	}
	global := block("kerberos",
		block("identity one", l.account(account, l.keytab)...),
		block("identity two", l.account("svc-other", l.kdc.Keytab(t, "svc-other"))...))
	l.mustLoad(l.config(global, to("one")) + l.site.site("http://"+second, to("two")))
	client := l.client()
	users := []string{account + "@" + labRealm, "svc-other@" + labRealm}
	errs := traffic(600, 16, func(i int) error {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+[]string{l.address, second}[i%2]+"/bound/", nil)
		if err != nil {
			return err
		}
		answer, err := ask(client, r)
		if err == nil && answer.header.Get("X-Remote-User") != users[i%2] {
			err = fmt.Errorf("%d, Apache saw %q, want %s", answer.status, answer.header.Get("X-Remote-User"), users[i%2])
		}
		return err
	})
	if len(errs) > 0 {
		t.Fatalf("%d requests failed, first: %v", len(errs), errs[0])
	}
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

func TestApacheTakesANewKeyUnderTraffic(t *testing.T) {
	l := newIntranet(t)
	a, at := l.apache("a.lab.test", lab.ApacheOptions{})
	l.mustLoad(l.config("", proxying(at, l.negotiating(l.resolvers()))))
	client := l.client()
	if err := l.ask(client, http.MethodGet, "/", nil); err != nil {
		t.Fatal(err)
	}
	l.kdc.Kadmin(t, "cpw -randkey HTTP/a.lab.test")
	a.ReloadKeytab(t)
	errs := traffic(300, 8, func(int) error { return l.ask(client, http.MethodGet, "/", nil) })
	if len(errs) > 0 {
		t.Fatalf("%d requests failed, first: %v", len(errs), errs[0])
	}
	if n := l.kdc.Tickets(t, "HTTP/a.lab.test@"+labRealm); n != 2 {
		t.Errorf("%d tickets, want the old and one new", n)
	}
}

func TestApacheThatRefusesGoodTokensTakesFewTickets(t *testing.T) {
	l := newIntranet(t)
	_, at := l.apache("a.lab.test", lab.ApacheOptions{})
	l.mustLoad(l.config("", proxying(at, l.negotiating(l.resolvers()))))
	client := l.client()
	errs := traffic(500, 8, func(int) error {
		a, err := ask(client, l.request(http.MethodGet, "/denied/"))
		if err == nil && (a.status != http.StatusUnauthorized || len(a.header.Values("WWW-Authenticate")) > 0) {
			err = fmt.Errorf("%d %q", a.status, a.header)
		}
		return err
	})
	if len(errs) > 0 {
		t.Fatalf("%d requests failed, first: %v", len(errs), errs[0])
	}
	if n := l.kdc.Tickets(t, "HTTP/a.lab.test@"+labRealm); n > 1+3+1 {
		t.Errorf("%d tickets for 500 refusals", n)
	}
}

func TestApacheTakesBodiesStreamsAndWebSockets(t *testing.T) {
	l := newIntranet(t)
	steps := make(chan string, 1)
	_, at := l.apache("a.lab.test", lab.ApacheOptions{Backend: behindApache(t, steps)})
	// Apache's 101 of what is behind it bears no AP-REP: nothing can be required of it.
	l.mustLoad(l.config("", proxying(at, l.negotiating(l.resolvers(), "mutual_auth on"))))

	body := bytes.Repeat([]byte("0123456789"), 30_000)
	sum := sha256.Sum256(body)
	for name, reader := range map[string]io.Reader{"with length": bytes.NewReader(body), "chunked": struct{ io.Reader }{bytes.NewReader(body)}} {
		got := lab.ParseEcho([]byte(l.post("/echo", reader).body))
		if got["BODY_SHA256"] != hex.EncodeToString(sum[:]) || got["REMOTE_USER"] != account+"@"+labRealm {
			t.Errorf("%s: Apache got %q of %q", name, got["BODY_SHA256"], got["REMOTE_USER"])
		}
	}
	steps <- "one"
	res, err := l.client().Do(l.request(http.MethodGet, "/app/stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	seen := bufio.NewScanner(res.Body)
	for _, step := range [][2]string{{"one", "two"}, {"two", "three"}, {"three", ""}} {
		if !seen.Scan() || seen.Text() != step[0] {
			t.Fatalf("got %q (%v), want %s", seen.Text(), seen.Err(), step[0])
		}
		steps <- step[1] // only now that the one before has come
	}
	ws, _, err := kdctest.DialWebSocket(t.Context(), l.client(), l.url("/app/ws"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	for _, message := range []string{"hello", "again"} {
		if err := ws.WriteText(message); err != nil {
			t.Fatal(err)
		}
		if got, err := ws.ReadText(); err != nil || got != message {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

// behindApache is a server that echoes WebSocket frames at /ws, and at /stream
// sends lines as they come, until an empty one.
func behindApache(t *testing.T, lines <-chan string) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.Copy(conn, rw) // frames come back as they are
			conn.Close()
		}
	})
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
	server := httptest.NewUnstartedServer(mux)
	server.Listener.Close()
	l, err := net.Listen("tcp", net.JoinHostPort(lab.Host(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	return l.Addr().String()
}
