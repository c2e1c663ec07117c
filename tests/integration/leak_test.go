package integration

import (
	"fmt"
	"io"
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
