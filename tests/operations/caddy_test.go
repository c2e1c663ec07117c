package operations

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

func TestMain(m *testing.M) { caddytest.Main(m) }

// site is Caddy with its admin endpoint, in front of a web server that requires Kerberos.
type site struct {
	caddytest.Env
	admin string
}

func newSite(t *testing.T, with caddytest.Options) *site {
	t.Helper()
	return &site{Env: caddytest.NewEnv(t, with), admin: caddytest.FreeAddress(t)}
}

// load loads a configuration: lines of the kerberos block, and of the site.
func (s *site) load(kerberos []string, lines ...string) {
	s.T.Helper()
	global := strings.Replace(s.Global("INFO", caddytest.Block("kerberos", kerberos...)), "admin off", "admin "+s.admin, 1)
	caddytest.Load(s.T, global+caddytest.Site(s.Addr, lines...))
}

// identity is a named identity that logs in with the keytab, at the first request.
func (s *site) identity(name string, lines ...string) string {
	return caddytest.Block("identity "+name, s.Login(append(lines, "login_at_start off")...)...)
}

// proxy is a reverse_proxy with a transport negotiate of this identity.
func (s *site) proxy(identity string, lines ...string) string {
	return caddytest.Block("reverse_proxy "+s.Upstream.Addr(), caddytest.Block("transport negotiate "+identity, append([]string{"spn " + caddytest.Service}, lines...)...))
}

// ask requests a path of the admin endpoint.
func (s *site) ask(method, path string) string {
	s.T.Helper()
	a := caddytest.Do(s.T, caddytest.Request(s.T, method, "http://"+s.admin+path))
	if a.Status != http.StatusOK {
		s.T.Fatalf("%s %s: %v", method, path, a)
	}
	return a.Body
}

// identities is the JSON of /kerberos/identities, as far as it is used here.
func (s *site) identities() []identity {
	s.T.Helper()
	var answer struct{ Identities []identity }
	if err := json.Unmarshal([]byte(s.ask(http.MethodGet, "/kerberos/identities")), &answer); err != nil {
		s.T.Fatal(err)
	}
	return answer.Identities
}

type identity struct {
	Name    string
	Breaker struct{ Remedy string }
}

// samples are the plugin's metrics.
type samples map[string]float64

// scrape returns the plugin's metrics by name and labels, without buckets.
func (s *site) scrape() samples {
	s.T.Helper()
	all := make(samples)
	for line := range strings.Lines(s.ask(http.MethodGet, "/metrics")) {
		name, value, _ := strings.Cut(strings.Replace(strings.TrimSpace(line), "} ", "}\t", 1), "\t")
		if value == "" {
			name, value, _ = strings.Cut(name, " ")
		}
		if (strings.HasPrefix(name, "caddy_negotiate_") || strings.HasPrefix(name, "caddy_kerberos_")) && !strings.Contains(name, "_bucket{") {
			var v float64
			if _, err := fmt.Sscan(value, &v); err != nil {
				s.T.Fatalf("%v in %q", err, line)
			}
			all[name] = v
		}
	}
	return all
}

// series are the samples' names in order.
func (all samples) series() []string {
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
