package delegation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-negotiate/caddy-negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "caddy-negotiate-delegation-")
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

// front is Caddy before a Kerberized service.
type front struct {
	t       *testing.T
	address string
	client  *http.Client
	loads   int // configurations so far; each answer names its own
}

// newFront gives Caddy an address; load starts it there.
func newFront(t *testing.T) *front {
	t.Helper()
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &front{t: t, address: freeAddress(t), client: &http.Client{Transport: transport}}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, release, err := kdctest.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return address
}

// config is a whole configuration: further global options, and what the site does.
// An error shows in X-Error and X-Code.
func (f *front) config(global string, does ...string) string {
	return block("", "admin off", "persist_config off", "auto_https off",
		"storage file_system "+filepath.Join(f.t.TempDir(), "storage"), "log {\nlevel PANIC\n}", global) + "\n" +
		block("http://"+f.address, append([]string{
			"bind 127.0.0.1",
			block("header", `X-Error "{http.negotiate.error}"`, `X-Code "{http.negotiate.error.code}"`, "X-Load "+strconv.Itoa(f.loads), "defer"),
		}, does...)...)
}

func block(name string, in ...string) string {
	return strings.TrimSpace(name+" {\n"+strings.Join(in, "\n")) + "\n}"
}

// tryLoad starts Caddy, or lets it go on with another configuration.
func tryLoad(t *testing.T, caddyfile string) error {
	t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	return caddy.Load(adapted, true)
}

func (f *front) load(global string, does ...string) {
	f.t.Helper()
	f.loads++
	if err := tryLoad(f.t, f.config(global, does...)); err != nil {
		f.t.Fatal(err)
	}
}

// answer is a response, read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) String() string {
	return fmt.Sprintf("%d %s %s %.80q", a.status, a.header.Get("X-Error"), a.header.Get("X-Code"), a.body)
}

// wantError fails unless the transport answered in the upstream's place.
func (a answer) wantError(t *testing.T, status int, name, code string) {
	t.Helper()
	if a.status != status || a.header.Get("X-Error") != name || a.header.Get("X-Code") != code || strings.TrimSpace(a.body) != name {
		t.Errorf("got %v, want %d %s %s", a, status, name, code)
	}
}

// peer is whom the upstream saw.
func (a answer) peer(t *testing.T) kdctest.Peer {
	t.Helper()
	var p kdctest.Peer
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%v: %v", a, err)
	}
	return p
}

// wantUser fails unless the upstream saw the user.
func (a answer) wantUser(t *testing.T, want string) {
	t.Helper()
	if got := strings.TrimSpace(a.body); a.status != http.StatusOK || got != want {
		t.Errorf("got %v, want 200 and %s", a, want)
	}
}

func (f *front) request(path string, change ...func(*http.Request)) *http.Request {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, "http://"+f.address+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, c := range change {
		c(r)
	}
	return r
}

// ask asks again while the configuration before answers: Caddy goes on serving the
// connections that it has by that one, for a moment.
func (f *front) ask(r *http.Request) (answer, error) {
	a, err := f.askOnce(r)
	for try := 0; try < 100 && err == nil && a.header.Get("X-Load") != "" && a.header.Get("X-Load") != strconv.Itoa(f.loads); try++ {
		a, err = f.askOnce(r)
	}
	return a, err
}

func (f *front) askOnce(r *http.Request) (answer, error) {
	res, err := f.client.Do(r)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		// A connection that the system gave to the server of the configuration
		// before, which was about to close; browsers ask again, too.
		res, err = f.client.Do(r)
	}
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(body)}, err
}

func (f *front) get(path string, change ...func(*http.Request)) answer {
	f.t.Helper()
	a, err := f.ask(f.request(path, change...))
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

// as signs a request with a name as a gateway in front would.
func as(name string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("X-User", name) }
}

// signedIn signs in with the password of basicAuth.
func signedIn(name string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(name, "pw") }
}

// basicAuth is the directive for users whose password is pw.
func basicAuth(t *testing.T, users ...string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("pw"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	lines := make([]string, len(users))
	for i, u := range users {
		lines[i] = fmt.Sprintf("`%s` %s", u, hash)
	}
	return block("basic_auth", lines...)
}

// Where the user comes from.
const (
	byProvider = "impersonate {http.auth.user.id}"
	byHeader   = "impersonate {http.request.header.X-User}\ntrust_header X-User"
)

// traffic does something n times, width at a time, and returns the failures.
func traffic(n, width int, do func(i int) error) []error {
	var (
		next atomic.Int64
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for range width {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return errs
}

// within waits until something is so.
func within(t *testing.T, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(errors.New("in vain waited for a minute"))
		}
	}
}
