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

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// TRACE and TRACK have the upstream send the request back, with a token that is
// still good. Seen on Apache's defaults.
func TestHygiene_TRACE(t *testing.T) {
	const allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	inBothForms(t, func(t *testing.T, s *site, load loader) {
		var asked atomic.Int64
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			_ = r.Write(w)
		}))
		defer upstream.Close()
		load(strings.TrimPrefix(upstream.URL, "http://"), "login_at_start off")
		for _, method := range []string{"TRACE", "TRACK", "trace"} {
			a := caddytest.Do(s.T, s.Request(method, "/"))
			if !a.IsError(http.StatusMethodNotAllowed, "method_refused") || a.Header.Get("Allow") != allow {
				t.Errorf("%s: %d %.300q, Allow %q", method, a.Status, a.Body, a.Header.Get("Allow"))
			}
		}
		if n := asked.Load(); n != 0 {
			t.Errorf("the upstream was asked %d times", n)
		}
		s.WantCounts(0, 0)
	})
}

func TestApache_TRACE(t *testing.T) {
	l := newApacheSite(t)
	_, at := l.apache("a.lab.test", lab.ApacheOptions{})
	for form, config := range map[string]string{
		"transport": l.config("", proxying(at, l.negotiating(l.resolvers()))),
		"directive": l.config("", caddytest.Block("negotiate", append(l.account(account, l.Keytab), "spn HTTP/a.lab.test")...),
			proxying(at, caddytest.Block("transport http", l.resolvers()))),
	} {
		caddytest.Load(l.T, config)
		for _, path := range []string{"/open/", "/"} {
			a := caddytest.Do(l.T, l.Request(http.MethodTrace, path))
			if a.Status != http.StatusMethodNotAllowed || strings.Contains(a.Body, "Authorization") {
				t.Errorf("%s: TRACE %s: %d %.300q", form, path, a.Status, a.Body)
			}
		}
		l.GetMany(1, 1, "/", isOK)
	}
}

// reverse_proxy runs the routes of handle_response with the request that the directive
// put the token on.
func TestHygiene_HandleResponse(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusUnauthorized} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			s := newSite(t, caddytest.Options{})
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
			caddytest.Load(s.T, s.config("", caddytest.Block("negotiate", s.usual()), proxying(s.target,
				fmt.Sprintf("@gone status %d", status),
				caddytest.Block("handle_response @gone", proxying(strings.TrimPrefix(other.URL, "http://"))))))
			a := s.Get("/")
			if got, _ := seen.Load().(string); a.Body != "other" || got != "" {
				t.Errorf("status %d %q; the other upstream got %.40q", a.Status, a.Body, got)
			}
		})
	}
}

// An upstream's 103 must not have a browser authenticate, and says nothing before the
// proof where one is required.
func TestHygiene_InformationalResponses(t *testing.T) {
	for _, mutual := range []string{"off", "on", "required"} {
		t.Run(mutual, func(t *testing.T) {
			inBothForms(t, func(t *testing.T, s *site, load loader) {
				upstream := httptest.NewServer(s.Acceptor.Protect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Link", "</style.css>")
					w.Header().Add("WWW-Authenticate", "NTLM")
					w.Header().Set("Persistent-Auth", "true")
					w.WriteHeader(http.StatusEarlyHints)
					_, _ = io.WriteString(w, "body")
				})))
				defer upstream.Close()
				load(strings.TrimPrefix(upstream.URL, "http://"), "mutual_auth "+mutual)
				raw := rawGet(t, s.Addr)
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
