package integration

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// behind runs a server of the test's own in the upstream's place.
func (s *site) behind(h http.HandlerFunc) {
	server := httptest.NewServer(h)
	s.T.Cleanup(server.Close)
	s.target = strings.TrimPrefix(server.URL, "http://")
}

// token is the one that came with a request.
func token(t *testing.T, r *http.Request) []byte {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		t.Errorf("Authorization %q", values)
		return nil
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(values[0], "Negotiate "))
	if err != nil {
		t.Error(err)
	}
	return b
}

func (s *site) post(path string, body io.Reader) caddytest.Answer {
	s.T.Helper()
	r, err := http.NewRequestWithContext(s.T.Context(), http.MethodPost, s.URL(path), body)
	if err != nil {
		s.T.Fatal(err)
	}
	return caddytest.Do(s.T, r)
}

func TestRefusal_ChangedServiceKey(t *testing.T) {
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprintf("bare refusal %t", bare), func(t *testing.T) {
			s := newSite(t, caddytest.Options{Acceptor: kdctest.AcceptorConfig{BareRefusals: bare}})
			s.load(s.usual())
			s.Get("/").WantUser(t, principal)
			s.ChangeServiceKey()
			a := s.Get("/")
			a.WantUser(t, principal)
			if a.Word() != "" {
				t.Errorf("error %q after a repeat that went well", a.Word())
			}
			s.Get("/").WantUser(t, principal)
			s.WantCounts(1, 2)
			if n := s.Upstream.Requests.Load(); n != 4 {
				t.Errorf("%d requests reached the upstream, want 4", n)
			}
		})
	}
}

func TestRefusal_BodyRepeated(t *testing.T) {
	for _, size := range []int{1, 10_000, 64 << 10} {
		s := newSite(t, caddytest.Options{})
		s.load(s.usual())
		s.Get("/").WantUser(t, principal)
		s.ChangeServiceKey()
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		if a := s.post("/echo", bytes.NewReader(body)); a.Status != http.StatusOK || a.Body != string(body) {
			t.Errorf("%d bytes: status %d, %d bytes came back", size, a.Status, len(a.Body))
		}
		s.ChangeServiceKey()
		if a := s.post("/echo", io.MultiReader(bytes.NewReader(body))); a.Status != http.StatusOK || a.Body != string(body) { // chunked
			t.Errorf("%d bytes in chunks: status %d, %d bytes came back", size, a.Status, len(a.Body))
		}
	}
}

func TestRefusal_BodyBeyondReplayBuffer(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.load(s.usual("replay_buffer 1KiB"))
	s.Get("/").WantUser(t, principal)
	s.ChangeServiceKey()
	a := s.post("/echo", bytes.NewReader(make([]byte, 20_000)))
	if a.Status != http.StatusUnauthorized || a.Word() != "token_refused" || a.Body != "authentication is required\n" {
		t.Fatalf("status %d, error %q, body %q", a.Status, a.Word(), a.Body)
	}
	if a.Header.Get("X-Error-Code") != "44" {
		t.Errorf("code %q, want that of KRB_AP_ERR_BADKEYVER", a.Header.Get("X-Error-Code"))
	}
	wantNoChallenge(t, a)
}

func TestRefusal_Replay(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	var n atomic.Int64
	protected := s.Acceptor.Protect(http.HandlerFunc(kdctest.WhoHandler))
	s.behind(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 { // something in between sends it twice
			_, _, _ = s.Acceptor.Accept(token(t, r), nil)
		}
		protected.ServeHTTP(w, r)
	})
	s.load(s.usual())
	s.Get("/").WantUser(t, principal)
	s.WantCounts(1, 1)
	if c := s.Acceptor.Counts(); c.Refused["KRB_AP_ERR_REPEAT"] != 1 || n.Load() != 2 {
		t.Fatalf("%v, %d requests", c, n.Load())
	}
}

func TestRefusal_RepeatRefused(t *testing.T) {
	s := newSite(t, caddytest.Options{Acceptor: kdctest.AcceptorConfig{Refuse: kdctest.RefuseGood}})
	s.load(s.usual())
	for range 8 {
		a := s.Get("/")
		if a.Status != http.StatusUnauthorized || a.Word() != "token_refused" || a.Body != "authentication is required\n" {
			t.Fatalf("status %d, error %q, body %q", a.Status, a.Word(), a.Body)
		}
		wantNoChallenge(t, a)
	}
	// One for the first request, three in a row, then nothing for 30 s.
	s.WantCounts(1, 4)
	if n := s.Upstream.Requests.Load(); n != 8+3 {
		t.Errorf("%d requests reached the upstream, want 11", n)
	}
}

func TestRefusal_WithProof(t *testing.T) {
	s := newSite(t, caddytest.Options{Acceptor: kdctest.AcceptorConfig{Refuse: kdctest.RefuseGoodWithAPRep}})
	s.load(s.usual("mutual_auth on"))
	for range 5 {
		a := s.Get("/")
		if a.Status != http.StatusUnauthorized || a.Word() != "" || a.Body != "authentication is required\n" {
			t.Fatalf("status %d, error %q, body %q", a.Status, a.Word(), a.Body)
		}
		wantNoChallenge(t, a)
	}
	s.WantCounts(1, 1)
	if n := s.Upstream.Requests.Load(); n != 5 {
		t.Errorf("%d requests reached the upstream, want 5", n)
	}
}

func TestRefusal_NothingLeaks(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	var n atomic.Int64
	s.behind(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			w.Header().Set("WWW-Authenticate", "Negotiate")
			w.Header().Set("Set-Cookie", "held=back")
			w.Header().Set("Trailer", "X-Held-Trailer")
			w.Header().Set("Content-Type", "text/held")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, strings.Repeat("held back ", 100_000))
			w.Header().Set("X-Held-Trailer", "held")
			return
		}
		_, _ = io.WriteString(w, "second")
	})
	s.load(s.usual())
	a := s.Get("/")
	if a.Status != http.StatusOK || a.Body != "second" {
		t.Fatalf("status %d, body %.50q", a.Status, a.Body)
	}
	if text := fmt.Sprint(a.Header, a.Trailer); strings.Contains(strings.ToLower(text), "held") {
		t.Fatalf("the first answer's header leaks: %s", text)
	}
}

func TestMutualAuth_Handler(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	var earlier atomic.Value // a valid answer, to another token
	s.behind(func(w http.ResponseWriter, r *http.Request) {
		_, reply, err := s.Acceptor.Accept(token(t, r), nil)
		if err != nil {
			t.Error(err)
		}
		value := "Negotiate " + base64.StdEncoding.EncodeToString(reply)
		w.Header().Set("Set-Cookie", "secret=1")
		w.Header().Set("Content-Type", "text/withheld")
		switch r.URL.Path {
		case "/right":
			earlier.Store(value)
		case "/wrong":
			value = earlier.Load().(string)
		case "/garbage":
			value = "Negotiate !!!"
		case "/missing":
			value = ""
		case "/missing-101":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn)
			return
		}
		if value != "" {
			w.Header().Set("WWW-Authenticate", value)
		}
		_, _ = io.WriteString(w, "the secret body")
	})
	for _, row := range []struct {
		mutual, path string
		ok           bool
	}{
		{"on", "/right", true},
		{"on", "/wrong", false},
		{"on", "/garbage", false},
		{"on", "/missing", true},
		{"required", "/right", true},
		{"required", "/wrong", false},
		{"required", "/garbage", false},
		{"required", "/missing", false},
		{"required", "/missing-101", false},
		{"off", "/right", true},
		{"off", "/missing", true},
	} {
		t.Run(row.mutual+row.path, func(t *testing.T) {
			s := *s
			s.T = t
			s.load(s.usual("mutual_auth " + row.mutual))
			r := s.Request(http.MethodGet, row.path)
			if row.path == "/missing-101" {
				r.Header.Set("Connection", "Upgrade")
				r.Header.Set("Upgrade", "echo")
			}
			a := caddytest.Do(s.T, r)
			wantNoChallenge(t, a)
			if row.ok {
				if a.Status != http.StatusOK || a.Body != "the secret body" {
					t.Fatalf("status %d, body %q", a.Status, a.Body)
				}
				return
			}
			a.WantError(t, http.StatusBadGateway, "mutual_auth_failed", "")
			if len(a.Header["Set-Cookie"]) > 0 || a.Header.Get("Content-Type") == "text/withheld" || a.Header.Get("Upgrade") != "" {
				t.Fatalf("header of the withheld answer: %v", a.Header)
			}
		})
	}
}
