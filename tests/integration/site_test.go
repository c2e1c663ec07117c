package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-negotiate/caddy-negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "caddy-negotiate-integration-")
	if err != nil {
		panic(err)
	}
	// Where Caddy would leave something, if it did.
	os.Setenv("XDG_DATA_HOME", folder)
	os.Setenv("XDG_CONFIG_HOME", folder)
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

const (
	realmName = "CORP.EXAMPLE"
	account   = "svc-proxy"
	password  = "a secret of the proxy"
	service   = "HTTP/web.corp.example"
	principal = account + "@" + realmName
)

// site is a Kerberized intranet in miniature, before Caddy.
type site struct {
	t        *testing.T
	realm    *kdctest.Realm
	kdc      *kdctest.KDC
	proxy    *kdctest.Principal
	web      *kdctest.Principal
	acceptor *kdctest.Acceptor
	upstream *kdctest.Upstream
	log      *capture
	folder   string
	keytab   string // of the proxy
	address  string // of Caddy
	target   string // of reverse_proxy; the upstream if empty
}

// setup is what a test wants otherwise.
type setup struct {
	kdc      kdctest.Config
	proxy    []kdctest.Option
	web      []kdctest.Option
	acceptor kdctest.AcceptorConfig
}

// newSite starts KDC and upstream. Caddy comes with load.
func newSite(t *testing.T, with setup) *site {
	t.Helper()
	s := &site{t: t, folder: t.TempDir(), realm: kdctest.NewRealm(realmName), log: newCapture(t)}
	s.proxy = s.realm.AddUser(account, password, with.proxy...)
	s.web = s.realm.AddService(service, with.web...)
	s.keytab = s.write("svc-proxy.keytab", s.keysOf(s.proxy))

	with.kdc.Realms = []*kdctest.Realm{s.realm}
	s.kdc = kdctest.NewKDC(with.kdc)
	if err := s.kdc.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kdc.Stop)

	with.acceptor.Keytab = s.keysOf(s.web)
	var err error
	if s.acceptor, err = kdctest.NewAcceptor(with.acceptor); err != nil {
		t.Fatal(err)
	}
	s.upstream = kdctest.NewUpstream(kdctest.UpstreamConfig{Acceptor: s.acceptor})
	if err := s.upstream.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.upstream.Stop)
	s.address = freeAddress(t)
	return s
}

func (s *site) keysOf(p ...*kdctest.Principal) []byte {
	s.t.Helper()
	keys, err := s.realm.Keytab(p...)
	if err != nil {
		s.t.Fatal(err)
	}
	return keys
}

func (s *site) write(name string, content []byte) string {
	s.t.Helper()
	path := filepath.Join(s.folder, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
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

// usual are the lines of a negotiate block that log in by keytab.
func (s *site) usual(more ...string) string {
	return lines(append([]string{
		"kdc " + s.kdc.Addr(), "user " + principal, "keytab " + s.keytab, "spn " + service,
	}, more...)...)
}

func lines(l ...string) string { return strings.Join(l, "\n\t\t") }

// caddyfile puts the lines of a negotiate block into a whole configuration. The
// answer to an error shows the placeholders.
func (s *site) caddyfile(block string) string {
	_, port, _ := net.SplitHostPort(s.address)
	target := s.target
	if target == "" {
		target = s.upstream.Addr()
	}
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system %s
	log {
		output capture %s
		level DEBUG
	}
}
http://:%s {
	bind 127.0.0.1
	header >X-Error "{http.negotiate.error}"
	header >X-Error-Code "{http.negotiate.error.code}"
	negotiate {
		%s
	}
	reverse_proxy %s
	handle_errors {
		header X-Handled-Error "{http.negotiate.error}"
		header X-Handled-Code "{http.negotiate.error.code}"
		respond "{err.status_code} {http.negotiate.error}"
	}
}
`, filepath.Join(s.folder, "storage"), s.log.name, port, block, target)
}

// load runs Caddy with a negotiate block, or runs it on with another one, and
// stops it when the test ends.
func (s *site) load(block string) {
	s.t.Helper()
	if err := s.tryLoad(block); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) tryLoad(block string) error {
	s.t.Helper()
	return s.loadFile(s.caddyfile(block))
}

func (s *site) loadFile(text string) error {
	s.t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	s.t.Cleanup(func() { _ = caddy.Stop() })
	return caddy.Load(adapted, true)
}

// url is Caddy's.
func (s *site) url(path string) string { return "http://" + s.address + path }

// client is a client with connections of its own.
func (s *site) client() *http.Client {
	t := &http.Transport{DisableCompression: true}
	s.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

// answer is a response, read.
type answer struct {
	status  int
	header  http.Header
	trailer http.Header
	body    string
}

func (s *site) get(path string) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url(path), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.do(r)
}

func (s *site) do(r *http.Request) answer {
	s.t.Helper()
	a, err := ask(s.client(), r)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func ask(c *http.Client, r *http.Request) (answer, error) {
	res, err := c.Do(r)
	if r.Body == nil && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		// A connection that the system gave to the server of the configuration
		// before, which was about to close; browsers ask again, too.
		res, err = c.Do(r)
	}
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, res.Trailer, string(body)}, err
}

// peer is whom the upstream saw.
func (a answer) peer(t *testing.T) kdctest.Peer {
	t.Helper()
	var p kdctest.Peer
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("status %d, body %q: %v", a.status, a.body, err)
	}
	return p
}

// wantOK fails unless the upstream let us in as the proxy's account.
func (a answer) wantOK(t *testing.T) {
	t.Helper()
	if a.status != http.StatusOK || a.body != principal+"\n" {
		t.Fatalf("status %d %q (error %q), want 200 and %s", a.status, a.body, a.header.Get("X-Error"), principal)
	}
}

// wantError fails unless the handler answered itself, through handle_errors.
func (a answer) wantError(t *testing.T, status int, name, code string) {
	t.Helper()
	got := fmt.Sprintf("%d %q %q %q", a.status, a.body, a.header.Get("X-Handled-Error"), a.header.Get("X-Handled-Code"))
	want := fmt.Sprintf("%d %q %q %q", status, fmt.Sprintf("%d %s", status, name), name, code)
	if got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

// wantCounts fails unless the KDC was asked for so many logins and tickets.
func (s *site) wantCounts(logins, tickets int) {
	s.t.Helper()
	c := s.kdc.Counts()
	if c.ASRep != logins || c.TGSRep != tickets || c.Services[service+"@"+realmName] != tickets {
		s.t.Fatalf("%d logins and %d tickets %v, want %d and %d", c.ASRep, c.TGSRep, c.Services, logins, tickets)
	}
}

// ready waits until the login in the background has ended, so that what follows
// is counted alone.
func (s *site) awaitLogin() { s.log.await(s.t, `"logged in"`) }

// capture holds what Caddy logs while a test runs. It is a writer module of
// Caddy's, found by its name.
type capture struct {
	name string

	mu    sync.Mutex
	text  strings.Builder
	grown chan struct{} // closed when something came
}

var (
	captures sync.Map
	captured atomic.Int64
)

func newCapture(t *testing.T) *capture {
	// Caddy may keep a writer for as long as it runs: each test run has its own.
	name := fmt.Sprintf("%s-%d", strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()), captured.Add(1))
	c := &capture{name: name, grown: make(chan struct{})}
	captures.Store(c.name, c)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Caddy's log:\n%s", c)
		}
	})
	return c
}

func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.grown)
	c.grown = make(chan struct{})
	return c.text.Write(p)
}

func (c *capture) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

func (c *capture) Close() error { return nil }

// await blocks until the log holds the text.
func (c *capture) await(t *testing.T, text string) {
	t.Helper()
	for {
		c.mu.Lock()
		found, grown := strings.Contains(c.text.String(), text), c.grown
		c.mu.Unlock()
		if found {
			return
		}
		select {
		case <-grown:
		case <-t.Context().Done():
			t.Fatalf("nothing logged that contains %s", text)
		}
	}
}

func init() { caddy.RegisterModule(captureWriter{}) }

type captureWriter struct {
	Name string `json:"name,omitempty"`
}

func (captureWriter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.writers.capture", New: func() caddy.Module { return new(captureWriter) }}
}

func (w *captureWriter) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&w.Name) {
		return d.ArgErr()
	}
	return nil
}

func (w captureWriter) String() string    { return "capture" }
func (w captureWriter) WriterKey() string { return "capture:" + w.Name }

func (w captureWriter) OpenWriter() (io.WriteCloser, error) {
	c, ok := captures.Load(w.Name)
	if !ok {
		return nil, fmt.Errorf("nobody captures %s", w.Name)
	}
	return c.(*capture), nil
}

// leftovers is goleak.Find, which waits for little more than a second, for a busy machine.
func leftovers(options ...goleak.Option) (err error) {
	for range 20 {
		if err = goleak.Find(options...); err == nil {
			break
		}
	}
	return err
}

// leakCheck fails the test if Caddy, once stopped, leaves goroutines behind. It
// is to be called first, so that it looks last.
func leakCheck(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		err := leftovers(before, goleak.IgnoreTopFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
			goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh")) // looks every five seconds whether to end
		if err != nil {
			t.Error(err)
		}
	})
}
