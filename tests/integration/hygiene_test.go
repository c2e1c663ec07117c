package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// wantNoChallenge fails if anything by which a browser would begin to
// authenticate reached the client.
func wantNoChallenge(t *testing.T, a caddytest.Answer) {
	t.Helper()
	for _, h := range []http.Header{a.Header, a.Trailer} {
		for name := range h {
			switch strings.ToLower(name) {
			case "www-authenticate", "authentication-info", "persistent-auth":
				t.Errorf("%s: %q reached the client", name, h[name])
			}
		}
	}
}

// raw sends bytes as they are and reads the answer.
func (s *site) raw(request string) caddytest.Answer {
	s.T.Helper()
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		s.T.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		s.T.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.T.Fatal(err)
	}
	a, err := caddytest.Read(res)
	if err != nil {
		s.T.Fatal(err)
	}
	return a
}

func TestHygiene_ClientsAuthorization(t *testing.T) {
	inBothForms(t, testClientsAuthorization)
}

func testClientsAuthorization(t *testing.T, s *site, load loader) {
	var mu sync.Mutex
	var seen string // all that the upstream saw of the last request
	protected := s.Acceptor.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		seen = fmt.Sprint(len(r.Header.Values("Authorization")), r.Header, r.Trailer, string(body))
		for name := range r.Trailer {
			if strings.EqualFold(name, "Authorization") {
				t.Errorf("trailer %s announced", name)
			}
		}
		kdctest.WhoHandler(w, r)
	}))
	s.behind(protected.ServeHTTP)
	load(s.target)

	const chunked = "\nTransfer-Encoding: chunked"
	const body = "\n\n5\nhello\n0\n"
	for _, row := range []struct{ name, head, rest string }{
		{"as header", "\nAuthorization: Basic Q0xJRU5U", "\n\n"},
		{"as Negotiate", "\nAuthorization: Negotiate Q0xJRU5U", "\n\n"},
		{"twice, in other case", "\nAUTHORIZATION: Basic Q0xJRU5U\nauthorization: Basic Q0xJRU5U", "\n\n"},
		{"named in Connection", "\nAuthorization: Basic Q0xJRU5U\nConnection: Authorization", "\n\n"},
		{"named in Connection alone", "\nConnection: keep-alive, authorization", "\n\n"},
		{"named in two Connections", "\nConnection: close\nConnection: x, AUTHORIZATION", "\n\n"},
		{"as declared trailer", chunked + "\nTrailer: Authorization", body + "Authorization: Basic Q0xJRU5U\n\n"},
		{"as undeclared trailer", chunked, body + "Authorization: Basic Q0xJRU5U\n\n"},
		{"as undeclared trailer beside a declared one", chunked + "\nTrailer: X-Sum", body + "X-Sum: 1\nauthorization: Basic Q0xJRU5U\n\n"},
		{"as declared trailer in other case", chunked + "\nTrailer: x-sum, aUTHORIZATION", body + "aUTHORIZATION: Basic Q0xJRU5U\nX-Sum: 1\n\n"},
		{
			"everywhere", chunked + "\nConnection: authorization, Trailer\nTrailer: Authorization\nAuthorization: Basic Q0xJRU5U",
			body + "Authorization: Basic Q0xJRU5U\n\n",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := *s
			s.T = t
			a := s.raw("POST / HTTP/1.1\nHost: app.example" + row.head + row.rest)
			a.WantUser(t, principal)
			mu.Lock()
			defer mu.Unlock()
			if strings.Contains(seen, "Q0xJRU5U") || !strings.HasPrefix(seen, "1 map[") {
				t.Errorf("the upstream saw %s", seen)
			}
			if strings.Contains(row.head, "Transfer-Encoding") && !strings.HasSuffix(seen, "hello") {
				t.Errorf("the body was lost: %s", seen)
			}
			if strings.Contains(row.rest, "X-Sum") && !strings.Contains(seen, "X-Sum:[1]") {
				t.Errorf("another trailer was lost: %s", seen)
			}
		})
	}
}

func TestHygiene_AuthorizationWithoutToken(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.KDC.Stop()
	s.load(s.usual("timeout 1s"))
	a := s.raw("GET / HTTP/1.1\nHost: app.example\nAuthorization: Basic Q0xJRU5U\n\n")
	a.WantError(t, http.StatusServiceUnavailable, "kdc_unreachable", "")
	if n := s.Upstream.Requests.Load(); n != 0 {
		t.Fatalf("%d requests reached the upstream", n)
	}
}

func TestHygiene_Challenges(t *testing.T) {
	inBothForms(t, testChallenges)
}

func testChallenges(t *testing.T, s *site, load loader) {
	spoil := func(h http.Header, prefix string) {
		h.Add(prefix+"WWW-Authenticate", "NTLM")
		h.Add(prefix+"WWW-Authenticate", `Basic realm="x", Digest nonce="y"`)
		h.Add(prefix+"Authentication-Info", "nextnonce=1")
		h.Add(prefix+"Persistent-Auth", "true")
		h[prefix+"www-AUTHENTICATE"] = []string{"Bearer"}
	}
	protected := s.Acceptor.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch r.URL.Path {
		case "/ok":
			spoil(h, "")
		case "/early":
			h.Set("Link", "</style.css>")
			spoil(h, "")
			w.WriteHeader(http.StatusEarlyHints)
		case "/unauthorized":
			h.Del("WWW-Authenticate") // a 401 of another scheme
			spoil(h, "")
			w.WriteHeader(http.StatusUnauthorized)
		case "/failed":
			spoil(h, "")
			w.WriteHeader(http.StatusInternalServerError)
		case "/stream":
			spoil(h, "")
			_, _ = io.WriteString(w, "first ")
			_ = http.NewResponseController(w).Flush()
		case "/announced-trailer":
			h.Set("Trailer", "WWW-Authenticate, Authentication-Info, Persistent-Auth, X-Sum")
			_, _ = io.WriteString(w, "first ")
			_ = http.NewResponseController(w).Flush()
			spoil(h, "")
			h.Set("X-Sum", "1")
		case "/late-trailer":
			_, _ = io.WriteString(w, "first ")
			_ = http.NewResponseController(w).Flush()
			spoil(h, http.TrailerPrefix)
			h.Set(http.TrailerPrefix+"X-Sum", "1")
		case "/no-content":
			spoil(h, "")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = io.WriteString(w, "body")
	}))
	s.behind(protected.ServeHTTP)
	load(s.target, "mutual_auth on")
	for path, want := range map[string]string{
		"/ok": "200 body", "/early": "200 body", "/unauthorized": "401 body", "/failed": "500 body", "/stream": "200 first body",
		"/announced-trailer": "200 first body", "/late-trailer": "200 first body", "/no-content": "204 ",
	} {
		t.Run(path, func(t *testing.T) {
			s := *s
			s.T = t
			a := s.raw("GET " + path + " HTTP/1.1\nHost: app.example\nTE: trailers\nConnection: close\n\n")
			if got := fmt.Sprintf("%d %s", a.Status, a.Body); path != "/early" && got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			wantNoChallenge(t, a)
			if strings.HasSuffix(path, "-trailer") && a.Trailer.Get("X-Sum") != "1" {
				t.Errorf("another trailer was lost: %v", a.Trailer)
			}
		})
	}
}

// Caddy's placeholders read the request that handlers change after the directive.
func TestHandler_PlaceholdersReadTheRequest(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	caddytest.Load(t, s.config("", caddytest.Block("route", caddytest.Block("negotiate", s.usual()),
		"vars body {http.request.body}", "method PUT", "request_header Host other.example",
		"header X-Seen \"{http.request.method} {http.request.host} {http.vars.body}\"", proxying(s.target))))
	a := s.post("/echo", strings.NewReader("a body"))
	if seen := a.Header.Get("X-Seen"); a.Status != http.StatusOK || seen != "PUT other.example a body" {
		t.Errorf("%d %q, placeholders yield %q", a.Status, a.Body, seen)
	}
}
