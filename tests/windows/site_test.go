package windows

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

const (
	realm = "LAB.TEST"
	host  = "a.lab.test"
)

// The program is built once for all tests.
var built struct {
	sync.Once
	dir, caddy string
}

func TestMain(m *testing.M) {
	status := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(status)
}

// caddyBinary is caddy.exe: as users have it with CADDY_NEGOTIATE_LONG=1, else without optimization, which
// compiles in two thirds of the time.
func caddyBinary(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		if built.caddy = filepath.Join(os.Getenv(lab.BinEnv), "caddy.exe"); os.Getenv(lab.BinEnv) != "" {
			if _, err := os.Stat(built.caddy); err == nil {
				return
			}
		}
		built.dir = must.OK(os.MkdirTemp("", "caddy-exe-"))(t)
		built.caddy = filepath.Join(built.dir, "caddy.exe")
		flags := []string{"-gcflags=all=-N -l -dwarf=false", "-ldflags=-s -w"}
		if os.Getenv("CADDY_NEGOTIATE_LONG") != "" {
			flags = nil
		}
		lab.BuildWindows(t, built.caddy, "build", append(flags, module+"/cmd/caddy")...)
	})
	if _, err := os.Stat(built.caddy); err != nil {
		t.Fatal(err)
	}
	return built.caddy
}

// site is caddy.exe in front of an Apache.
type site struct {
	T      *testing.T
	Wine   *lab.Wine
	KDC    *lab.MIT
	Apache *lab.Apache
	Tools  *lab.Tools
	Dir    string // C:\NAME
	Addr   string // of the first site
	Admin  string
	Caddy  *lab.WineProcess

	client *http.Client
}

// newSite starts a KDC with the accounts alice and bob, and the Apache.
func newSite(t *testing.T, name string) *site {
	t.Helper()
	lab.Require(t, lab.Emulator, lab.KDC, lab.Krb5User, lab.HTTPD)
	s := &site{T: t, Wine: lab.SharedWine(t), Addr: caddytest.FreeAddress(t), Admin: caddytest.FreeAddress(t), client: caddytest.Client(t)}
	s.KDC = lab.StartMIT(t, lab.MITOptions{Realm: realm, Principals: []lab.Principal{
		{Name: "alice", Password: "alice's password"}, {Name: "bob", Password: "bob's password"}, {Name: "HTTP/" + host},
	}})
	s.Apache = lab.StartApache(t, lab.ApacheOptions{Realm: s.KDC, Hosts: []string{host}})
	s.Tools = lab.NewTools(t, s.KDC)
	s.Dir = filepath.Join(s.Wine.DriveC(), name)
	must.Do(t, os.MkdirAll(s.Dir, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(s.Dir) }) // the log, too: the next test of this name waits for what it says
	return s
}

// write writes a file into Dir, as a tool for Windows does: beside, then renamed.
func (s *site) write(name string, content []byte) string {
	s.T.Helper()
	path := filepath.Join(s.Dir, name)
	must.Do(s.T, os.WriteFile(path+".next", content, 0o600))
	must.Do(s.T, os.Rename(path+".next", path))
	return path
}

// block is a site with a transport that has these lines, in front of the Apache.
func (s *site) block(address string, lines ...string) string {
	return caddytest.Site(address, caddytest.Block("reverse_proxy "+s.Apache.Addr(), "header_up Host "+host, caddytest.Block("transport negotiate", lines...)))
}

// config is a whole Caddyfile.
func (s *site) config(blocks ...string) []byte {
	global := caddytest.Block("", "admin "+s.Admin, "persist_config off", "auto_https off",
		"storage file_system C:/"+filepath.Base(s.Dir)+"/storage", "metrics")
	return []byte(global + "\n" + strings.Join(blocks, "\n"))
}

// run starts caddy.exe with a Caddyfile.
func (s *site) run(config []byte, env ...string) {
	s.T.Helper()
	caddyfile := s.Wine.Path(s.write("Caddyfile", config))
	s.Caddy = s.Wine.Start(s.T, filepath.Join(s.Dir, "caddy.log"), append(env, "KRB5_CONFIG="+s.KDC.Krb5Conf()),
		caddyBinary(s.T), "run", "--config", caddyfile, "--adapter", "caddyfile")
	s.T.Cleanup(func() {
		if s.T.Failed() {
			out := s.Caddy.Output(s.T)
			s.T.Logf("caddy.exe:\n%s", out[max(0, len(out)-4000):])
		}
	})
	s.Caddy.Ready(s.T, "serving initial configuration")
}

// get requests a path at an address of the sites.
func (s *site) get(address, path string) caddytest.Answer {
	s.T.Helper()
	return must.OK(s.ask(address, path))(s.T)
}

func (s *site) ask(address, path string) (caddytest.Answer, error) {
	r, err := http.NewRequestWithContext(s.T.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return caddytest.Answer{}, err
	}
	return caddytest.Ask(s.client, r)
}

// userOf is whom the Apache authenticated.
func userOf(a caddytest.Answer) string { return a.Header.Get("X-Remote-User") }

// becomes waits until requests are answered so.
func (s *site) becomes(what string, holds func(caddytest.Answer) bool) {
	s.T.Helper()
	caddytest.WaitFor(s.T, what, func() bool { return holds(s.get(s.Addr, "/")) })
}

func isUser(principal string) func(caddytest.Answer) bool {
	return func(a caddytest.Answer) bool { return a.Status == http.StatusOK && userOf(a) == principal }
}

// command runs caddy.exe kerberos.
func (s *site) command(env []string, args ...string) (string, error) {
	return s.Wine.Run(append(env, "KRB5_CONFIG="+s.KDC.Krb5Conf()), caddyBinary(s.T), append([]string{"kerberos"}, args...)...)
}
