package integration

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// few has Caddy reuse connections as much as it can.
const few = "max_conns_per_host 2"

// mixed sends n requests to each of two paths, 16 at once, and fails unless all of one
// are the user and none of the other.
func (s *site) mixed(n int, secured, public string) {
	s.T.Helper()
	client := s.Client()
	caddytest.All(s.T, 2*n, 16, func(i int) error {
		path := []string{secured, public}[i%2]
		a, err := caddytest.Ask(client, s.Request(http.MethodGet, path))
		if err == nil && (a.Status == http.StatusOK) != (path == secured) {
			err = errors.New(path + ": " + a.String())
		}
		return err
	})
}

// Of one reverse_proxy's requests, those without the directive must not be sent on a
// connection that the upstream takes for authenticated.
func TestSeparate_Shapes(t *testing.T) {
	for _, row := range []struct {
		name  string
		lines func(s *site, proxy, negotiate string) []string
		n     int
	}{
		{"matcher", func(s *site, proxy, negotiate string) []string {
			return []string{strings.Replace(negotiate, "negotiate", "negotiate /secured", 1), proxy}
		}, caddytest.Long(500, 10_000)},
		{"route", func(s *site, proxy, negotiate string) []string {
			return []string{caddytest.Block("route", caddytest.Block("handle /secured", negotiate), proxy)}
		}, 200},
		{"invoke", func(s *site, proxy, negotiate string) []string {
			return []string{caddytest.Block("handle /secured", caddytest.Block("route", negotiate, "invoke app")), caddytest.Block("handle", "invoke app")}
		}, 200},
		{"handle_response", func(s *site, proxy, negotiate string) []string {
			return []string{proxying(s.gate(), caddytest.Block("handle_response",
				caddytest.Block("route", strings.Replace(negotiate, "negotiate", "negotiate /secured", 1), proxy)))}
		}, 200},
		{"error routes", func(s *site, proxy, negotiate string) []string {
			return []string{"error 404", caddytest.Block("handle_errors 404", strings.Replace(negotiate, "negotiate", "negotiate /secured", 1), proxy)}
		}, 200},
		{"intercept", func(s *site, proxy, negotiate string) []string {
			return []string{caddytest.Block("intercept", caddytest.Block("handle_response",
				caddytest.Block("route", strings.Replace(negotiate, "negotiate", "negotiate /secured", 1), proxy))), "respond nothing"}
		}, 200},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t, caddytest.Options{Acceptor: kdctest.AcceptorConfig{PerConnection: true}})
			proxy := proxying(s.target, caddytest.Block("transport http", few))
			config := caddytest.Block("http://:"+caddytest.Port(s.Addr), append([]string{"bind 127.0.0.1"},
				row.lines(s, proxy, caddytest.Block("negotiate", s.usual()))...)...)
			if row.name == "invoke" {
				config = caddytest.Block("&(app)", proxy) + "\n" + config
			}
			caddytest.Load(t, s.Global("INFO")+config)
			s.mixed(row.n, "/secured", "/public")
			c := s.Acceptor.Counts()
			t.Logf("%d requests with a token, %d without: accepted %d, by their connection %d, refused without %d", row.n, row.n, c.Accepted, c.Persisted, c.Missing)
			if c.Accepted != row.n || c.Persisted != 0 || c.Missing != row.n {
				t.Errorf("%+v", c)
			}
			if s.Log.Contains("level\":\"warn") && s.Log.Contains("no reverse_proxy comes after") {
				t.Errorf("warned:\n%s", s.Log)
			}
		})
	}
}

// gate is an upstream that lets everything pass, as forward_auth's.
func (s *site) gate() string {
	return caddytest.Serve(s.T, &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
}

// Two accounts before one reverse_proxy do not share connections either.
func TestSeparate_Accounts(t *testing.T) {
	s := newSite(t, caddytest.Options{Acceptor: kdctest.AcceptorConfig{PerConnection: true}})
	other := s.Realm.AddUser("svc-other", "secret")
	keytab := s.Write("other.keytab", s.KeysOf(other))
	users := make(map[string]map[string]bool) // by connection
	var mu sync.Mutex
	s.behind(func(w http.ResponseWriter, r *http.Request) {
		s.Acceptor.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if users[r.RemoteAddr] == nil {
				users[r.RemoteAddr] = make(map[string]bool)
			}
			users[r.RemoteAddr][r.URL.Path] = true
		})).ServeHTTP(w, r)
	})
	caddytest.Load(t, s.config("",
		caddytest.Block("negotiate /one", s.usual()),
		caddytest.Block("negotiate /two", "kdc "+s.KDC.Addr(), "user svc-other@"+realmName, "keytab "+keytab, "spn "+service),
		proxying(s.target, caddytest.Block("transport http", few))))
	caddytest.All(t, 200, 8, func(i int) error {
		a, err := caddytest.Ask(s.Client(), s.Request(http.MethodGet, []string{"/one", "/two"}[i%2]))
		if err == nil && a.Status != http.StatusOK {
			err = errors.New(a.String())
		}
		return err
	})
	for conn, of := range users {
		if len(of) != 1 {
			t.Errorf("connection %s carried both accounts", conn)
		}
	}
}

func TestSeparate_Apache(t *testing.T) {
	l := newApacheSite(t)
	_, at := l.apache("a.lab.test", lab.ApacheOptions{})
	caddytest.Load(l.T, l.config("", caddytest.Block("negotiate /bound/in", append(l.account(account, l.Keytab), "spn HTTP/a.lab.test")...),
		proxying(at, "rewrite /bound/", caddytest.Block("transport http", few, l.resolvers()))))
	l.mixed(200, "/bound/in", "/bound/out")
}

// The routes of handle_errors run with the same context, when the handler has ended.
func TestSeparate_ErrorRoutes(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	caddytest.Load(t, s.Global("INFO")+caddytest.Block("&(app)", proxying(s.target))+"\n"+
		caddytest.Block("http://:"+caddytest.Port(s.Addr), "bind 127.0.0.1",
			caddytest.Block("route", caddytest.Block("negotiate", s.usual()), "error /missing 404", "invoke app"),
			caddytest.Block("handle_errors", "invoke app")))
	s.Get("/").WantUser(t, principal)
	if a := s.Get("/missing"); a.Status != http.StatusUnauthorized {
		t.Errorf("got %v, want the upstream's 401", a)
	}
}

// A reverse_proxy that cannot keep connections apart gets no token, and that is said.
func TestSeparate_OtherTransportBeside(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	other := caddytest.Serve(t, &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+r.Header.Get("Authorization"))
	})})
	caddytest.Load(t, s.config("", caddytest.Block("negotiate", s.usual()), "reverse_proxy /other h2c://"+other, proxying(s.target)))
	const warning = `"a request after negotiate went through a reverse_proxy that sends no token`
	s.Get("/").WantUser(t, principal)
	if s.Log.Contains(warning) {
		t.Error("warned of a request that had its token")
	}
	for range 2 {
		if a := s.Get("/other"); a.Status != http.StatusOK || a.Body != "HTTP/2.0" {
			t.Errorf("got %v", a)
		}
	}
	if n := s.Log.Count(warning); n != 1 {
		t.Errorf("%d warnings:\n%s", n, s.Log)
	}
}
