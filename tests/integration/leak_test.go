package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// forms runs a test once with the directive and once with the transport.
func forms(t *testing.T, test func(t *testing.T, s *site, load func(upstream string, lines ...string))) {
	t.Run("directive", func(t *testing.T) {
		s := newSite(t, setup{})
		test(t, s, func(upstream string, lines ...string) {
			s.mustLoad(s.config("", block("negotiate", append([]string{s.usual()}, lines...)...), proxying(upstream), echoingErrors))
		})
	})
	t.Run("transport", func(t *testing.T) {
		s := newSite(t, setup{})
		test(t, s, func(upstream string, lines ...string) { s.run(upstream, append(lines, "spn "+service)...) })
	})
}

const echoingErrors = `handle_errors {
	respond "{http.negotiate.error}
"
}`

// TRACE and TRACK have the upstream send the request back, with a token that is
// still good. Seen on Apache's defaults.
func TestTokenIsNotEchoed(t *testing.T) {
	const allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	forms(t, func(t *testing.T, s *site, load func(string, ...string)) {
		var asked atomic.Int64
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			_ = r.Write(w)
		}))
		defer upstream.Close()
		load(strings.TrimPrefix(upstream.URL, "http://"), "login_at_start off")
		for _, method := range []string{"TRACE", "TRACK", "trace"} {
			a := s.do(s.request(method, "/"))
			if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != allow || a.body != "method_refused\n" {
				t.Errorf("%s: %d %.300q, Allow %q", method, a.status, a.body, a.header.Get("Allow"))
			}
		}
		if n := asked.Load(); n != 0 {
			t.Errorf("the upstream was asked %d times", n)
		}
		s.wantCounts(0, 0)
	})
}

func TestApacheDoesNotEchoTheToken(t *testing.T) {
	l := newIntranet(t)
	_, at := l.apache("a.lab.test", lab.ApacheOptions{})
	for form, config := range map[string]string{
		"transport": l.config("", proxying(at, l.negotiating(l.resolvers()))),
		"directive": l.config("", block("negotiate", append(l.account(account, l.keytab), "spn HTTP/a.lab.test")...),
			proxying(at, block("transport http", l.resolvers()))),
	} {
		l.mustLoad(config)
		for _, path := range []string{"/open/", "/"} {
			a := l.do(l.request(http.MethodTrace, path))
			if a.status != http.StatusMethodNotAllowed || strings.Contains(a.body, "Authorization") {
				t.Errorf("%s: TRACE %s: %d %.300q", form, path, a.status, a.body)
			}
		}
		if err := l.ask(l.client(), http.MethodGet, "/", nil); err != nil {
			t.Errorf("%s: GET after TRACE: %v", form, err)
		}
	}
}

// reverse_proxy runs the routes of handle_response with the request that the directive
// put the token on.
func TestHandleResponseGetsNoToken(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusUnauthorized} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			s := newSite(t, setup{})
			var seen atomic.Value
			other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen.Store(r.Header.Get("Authorization"))
				_, _ = io.WriteString(w, "other")
			}))
			defer other.Close()
			s.behind(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.Header.Get("Authorization"), "Negotiate ") {
					t.Error("the upstream itself got no token")
				}
				w.WriteHeader(status)
			})
			s.mustLoad(s.config("", block("negotiate", s.usual()), proxying(s.target,
				fmt.Sprintf("@gone status %d", status),
				block("handle_response @gone", proxying(strings.TrimPrefix(other.URL, "http://"))))))
			a := s.get("/")
			if got, _ := seen.Load().(string); a.body != "other" || got != "" {
				t.Errorf("status %d %q; the other upstream got %.40q", a.status, a.body, got)
			}
		})
	}
}

// An upstream's 103 must not have a browser authenticate, and says nothing before the
// proof where one is required.
func TestInformationalResponsesHoldNoChallenge(t *testing.T) {
	for _, mutual := range []string{"off", "on", "required"} {
		t.Run(mutual, func(t *testing.T) {
			forms(t, func(t *testing.T, s *site, load func(string, ...string)) {
				upstream := httptest.NewServer(s.acceptor.Protect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Link", "</style.css>")
					w.Header().Add("WWW-Authenticate", "NTLM")
					w.Header().Set("Persistent-Auth", "true")
					w.WriteHeader(http.StatusEarlyHints)
					_, _ = io.WriteString(w, "body")
				})))
				defer upstream.Close()
				load(strings.TrimPrefix(upstream.URL, "http://"), "mutual_auth "+mutual)
				raw := rawGet(t, s.address)
				if lower := strings.ToLower(raw); strings.Contains(lower, "www-authenticate") || strings.Contains(lower, "persistent-auth") {
					t.Errorf("the client sees a challenge:\n%s", raw)
				}
				if !strings.Contains(raw, "\r\n\r\nbody") {
					t.Errorf("no final answer:\n%s", raw)
				}
				if early := strings.Contains(raw, " 103 "); early == (mutual == "required") {
					t.Errorf("early hints passed: %t", early)
				}
			})
		})
	}
}

// rawGet is everything that comes for a GET, informational responses included.
func rawGet(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", address); err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
