package faults

import (
	"context"
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
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestMain(m *testing.M) {
	if os.Getenv(actAsCaddy) != "" {
		runCaddy() // does not return
	}
	folder, err := os.MkdirTemp("", "caddy-negotiate-faults-")
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
	webHost   = "web.corp.example"
	service   = "HTTP/" + webHost
	principal = account + "@" + realmName
)

// rig is an intranet in miniature with everything that can go wrong, and Caddy
// before it.
type rig struct {
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
	global   string // lines of the global options
	level    string // of the log
	quiet    string // a line that keeps something out of the log
	target   string // of reverse_proxy
	sites    []string
	oldKeys  []keytab.Entry // of the web service
}

// newRig starts KDC and upstream. Caddy comes with load. Once Caddy is stopped,
// no goroutine of it may be left.
func newRig(t *testing.T) *rig {
	t.Helper()
	leakCheck(t)
	r := &rig{t: t, folder: t.TempDir(), realm: kdctest.NewRealm(realmName), log: newCapture(t), level: "DEBUG"}
	r.global = "storage file_system " + filepath.Join(r.folder, "storage")
	r.proxy = r.realm.AddUser(account, password)
	r.web = r.realm.AddService(service)
	r.keytab = r.write("svc-proxy.keytab", r.keysOf(r.proxy))
	r.kdc = r.startKDC(kdctest.Config{})

	var err error
	if r.acceptor, err = kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: r.keysOf(r.web)}); err != nil {
		t.Fatal(err)
	}
	r.upstream = kdctest.NewUpstream(kdctest.UpstreamConfig{Acceptor: r.acceptor})
	if err := r.upstream.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.upstream.Stop)
	r.target = r.upstream.Addr()
	return r
}

// startKDC starts a KDC of the realm.
func (r *rig) startKDC(cfg kdctest.Config) *kdctest.KDC {
	r.t.Helper()
	cfg.Realms = []*kdctest.Realm{r.realm}
	k := kdctest.NewKDC(cfg)
	if err := k.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(k.Stop)
	return k
}

func (r *rig) keysOf(p ...*kdctest.Principal) []byte {
	r.t.Helper()
	keys, err := r.realm.Keytab(p...)
	if err != nil {
		r.t.Fatal(err)
	}
	return keys
}

func (r *rig) write(name string, content []byte) string {
	r.t.Helper()
	path := filepath.Join(r.folder, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// serveInstead puts another server in the upstream's place.
func (r *rig) serveInstead(server *http.Server) {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	r.t.Cleanup(func() { _ = server.Close() })
	r.target = l.Addr().String()
}

// usual are the lines that log in by keytab.
func (r *rig) usual(more ...string) string {
	return lines(append([]string{"kdc " + r.kdc.Addr(), "user " + principal, "keytab " + r.keytab, "spn " + service}, more...)...)
}

func lines(l ...string) string { return strings.Join(l, "\n\t\t") }

// load runs Caddy with a site for each block, or runs it on with other ones, and
// stops it when the test ends.
func (r *rig) load(blocks ...string) {
	r.t.Helper()
	if err := r.tryLoad(blocks...); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) tryLoad(blocks ...string) error {
	r.t.Helper()
	for len(r.sites) < len(blocks) {
		r.sites = append(r.sites, freeAddress(r.t))
	}
	var text strings.Builder
	fmt.Fprintf(&text, `{
	admin off
	persist_config off
	auto_https off
	%s
	log {
		output capture %s
		level %s
		%s
	}
}
`, r.global, r.log.name, r.level, r.quiet)
	for i, block := range blocks {
		text.WriteString(r.site(r.sites[i], block))
	}
	return r.loadText(text.String())
}

// site is a site with a negotiate block. Its answers tell the placeholders.
func (r *rig) site(address, block string) string {
	_, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf(`
http://:%s {
	bind 127.0.0.1
	header {
		X-Error "{http.negotiate.error}"
		X-Source "{http.negotiate.source}"
		defer
	}
	respond /ping pong
	negotiate {
		%s
	}
	reverse_proxy %s {
		transport http {
			dial_timeout 1m # a busy machine is no dead upstream
		}
	}
	handle_errors {
		respond "{err.status_code} {http.negotiate.error}"
	}
}
`, port, block, r.target)
}

func (r *rig) loadText(text string) error {
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	r.t.Cleanup(func() { _ = caddy.Stop() })
	return caddy.Load(adapted, true)
}

// client is a client with connections of its own.
func (r *rig) client() *http.Client { return newClient(r.t) }

func newClient(t *testing.T) *http.Client {
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// answer is a response, read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) String() string {
	return fmt.Sprintf("%d %q error %q retry-after %q", a.status, a.body, a.header.Get("X-Error"), a.header.Get("Retry-After"))
}

// good tells whether the upstream let us in as the proxy's account.
func (a answer) good() bool { return a.status == http.StatusOK && a.body == principal+"\n" }

// get asks the first site.
func (r *rig) get(path string) answer {
	r.t.Helper()
	a, err := ask(r.t.Context(), r.client(), "http://"+r.sites[0]+path)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		// A connection that the system gave to the server of the configuration
		// before, which was about to close; browsers ask again, too.
		a, err = ask(r.t.Context(), r.client(), "http://"+r.sites[0]+path)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

func (r *rig) wantGood() answer {
	r.t.Helper()
	a := r.get("/")
	if !a.good() {
		r.t.Fatalf("got %v, want %s let in", a, principal)
	}
	return a
}

func ask(ctx context.Context, c *http.Client, url string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	res, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(body)}, err
}

// crowd sends n requests from as many goroutines as workers, request i to
// url(i), and gives each answer to judge, which is not called twice at a time.
// It answers what judge did not like.
func crowd(t *testing.T, workers, n int, url func(i int) string, judge func(a answer, err error) error) []error {
	t.Helper()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
		next int
	)
	for range workers {
		client := newClient(t)
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= n {
					return
				}
				a, err := ask(t.Context(), client, url(i))
				mu.Lock()
				if err = judge(a, err); err != nil {
					errs = append(errs, fmt.Errorf("request %d: %w", i, err))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errs
}

func wantNoErrors(t *testing.T, n int, errs []error) {
	t.Helper()
	if len(errs) > 0 {
		t.Fatalf("%d of %d requests failed, first: %v", len(errs), n, errs[0])
	}
}

// letIn is a judge for crowd that wants every request let in.
func letIn(a answer, err error) error {
	if err == nil && !a.good() {
		err = errors.New(a.String())
	}
	return err
}

// wantCounts fails unless the KDC was asked for so many logins and tickets.
func (r *rig) wantCounts(logins, tickets int) {
	r.t.Helper()
	if c := r.kdc.Counts(); c.ASRep != logins || c.TGSRep != tickets {
		r.t.Fatalf("%d logins and %d exchanges, want %d and %d", c.ASRep, c.TGSRep, logins, tickets)
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
		captures.Delete(c.name)
		if t.Failed() {
			var ours strings.Builder
			for line := range strings.Lines(c.String()) {
				if strings.Contains(line, "kerberos") || strings.Contains(line, "negotiate") || strings.Contains(line, `"error"`) {
					ours.WriteString(line)
				}
			}
			text := ours.String()
			t.Logf("Caddy's log, ours and errors:\n%s", text[max(0, len(text)-4000):])
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

func (c *capture) count(text string) int { return strings.Count(c.String(), text) }

// await blocks until the log holds the text n times.
func (c *capture) await(t *testing.T, text string, n int) {
	t.Helper()
	for {
		c.mu.Lock()
		found, grown := strings.Count(c.text.String(), text), c.grown
		c.mu.Unlock()
		if found >= n {
			return
		}
		select {
		case <-grown:
		case <-t.Context().Done():
			t.Fatalf("logged %d times, not %d: %s", found, n, text)
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
		err := leftovers(before,
			goleak.IgnoreTopFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
			// A file lock's keeper notices within seconds that the lock was given back.
			goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
		if err != nil {
			t.Error(err)
		}
	})
}
