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
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// behind runs a server of the test's own in the upstream's place.
func (s *site) behind(h http.HandlerFunc) {
	server := httptest.NewServer(h)
	s.t.Cleanup(server.Close)
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

func (s *site) changeServiceKey() {
	s.t.Helper()
	s.web.ChangeKey(false)
	if err := s.acceptor.Update(func(c *kdctest.AcceptorConfig) { c.Keytab = s.keysOf(s.web) }); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) post(path string, body io.Reader) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url(path), body)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.do(r)
}

func TestChangedServiceKeyTakesOneRepeatWithANewTicket(t *testing.T) {
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprintf("bare refusal %t", bare), func(t *testing.T) {
			s := newSite(t, setup{acceptor: kdctest.AcceptorConfig{BareRefusals: bare}})
			s.load(s.usual())
			s.get("/").wantOK(t)
			s.changeServiceKey()
			a := s.get("/")
			a.wantOK(t)
			if a.header.Get("X-Error") != "" {
				t.Errorf("error %q after a repeat that went well", a.header.Get("X-Error"))
			}
			s.get("/").wantOK(t)
			s.wantCounts(1, 2)
			if n := s.upstream.Requests.Load(); n != 4 {
				t.Errorf("%d requests reached the upstream, want 4", n)
			}
		})
	}
}

func TestBodyIsRepeatedWhole(t *testing.T) {
	for _, size := range []int{1, 10_000, 64 << 10} {
		s := newSite(t, setup{})
		s.load(s.usual())
		s.get("/").wantOK(t)
		s.changeServiceKey()
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		if a := s.post("/echo", bytes.NewReader(body)); a.status != http.StatusOK || a.body != string(body) {
			t.Errorf("%d bytes: status %d, %d bytes came back", size, a.status, len(a.body))
		}
		s.changeServiceKey()
		if a := s.post("/echo", io.MultiReader(bytes.NewReader(body))); a.status != http.StatusOK || a.body != string(body) { // chunked
			t.Errorf("%d bytes in chunks: status %d, %d bytes came back", size, a.status, len(a.body))
		}
	}
}

func TestBodyBeyondReplayBufferIsNotRepeated(t *testing.T) {
	s := newSite(t, setup{})
	s.load(s.usual("replay_buffer 1KiB"))
	s.get("/").wantOK(t)
	s.changeServiceKey()
	a := s.post("/echo", bytes.NewReader(make([]byte, 20_000)))
	if a.status != http.StatusUnauthorized || a.header.Get("X-Error") != "token_refused" || a.body != "authentication is required\n" {
		t.Fatalf("status %d, error %q, body %q", a.status, a.header.Get("X-Error"), a.body)
	}
	if a.header.Get("X-Error-Code") != "44" {
		t.Errorf("code %q, want that of KRB_AP_ERR_BADKEYVER", a.header.Get("X-Error-Code"))
	}
	wantNoChallenge(t, a)
}

func TestReplayIsRepeatedWithTheSameTicket(t *testing.T) {
	s := newSite(t, setup{})
	var n atomic.Int64
	protected := s.acceptor.Protect(http.HandlerFunc(kdctest.WhoHandler))
	s.behind(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 { // somebody between us sends it on twice
			_, _, _ = s.acceptor.Accept(token(t, r), nil)
		}
		protected.ServeHTTP(w, r)
	})
	s.load(s.usual())
	s.get("/").wantOK(t)
	s.wantCounts(1, 1)
	if c := s.acceptor.Counts(); c.Refused["KRB_AP_ERR_REPEAT"] != 1 || n.Load() != 2 {
		t.Fatalf("%v, %d requests", c, n.Load())
	}
}

func TestAcceptorsClockServesTheRepeatAlone(t *testing.T) {
	s := newSite(t, setup{acceptor: kdctest.AcceptorConfig{Now: func() time.Time { return time.Now().Add(17 * time.Minute) }}})
	s.load(s.usual())
	for i := range 3 {
		s.get("/").wantOK(t)
		if c := s.acceptor.Counts(); c.Refused["KRB_AP_ERR_SKEW"] != i+1 || c.Accepted != i+1 {
			t.Fatalf("%+v after %d requests", c, i+1)
		}
	}
	s.wantCounts(1, 1)
}

func TestRefusedRepeatIsPassedOn(t *testing.T) {
	s := newSite(t, setup{acceptor: kdctest.AcceptorConfig{Refuse: kdctest.RefuseGood}})
	s.load(s.usual())
	for range 8 {
		a := s.get("/")
		if a.status != http.StatusUnauthorized || a.header.Get("X-Error") != "token_refused" || a.body != "authentication is required\n" {
			t.Fatalf("status %d, error %q, body %q", a.status, a.header.Get("X-Error"), a.body)
		}
		wantNoChallenge(t, a)
	}
	// One for the first request, three in a row, then nothing for 30 s.
	s.wantCounts(1, 4)
	if n := s.upstream.Requests.Load(); n != 8+3 {
		t.Errorf("%d requests reached the upstream, want 11", n)
	}
}

func TestRefusalWithProofTakesNoNewTicket(t *testing.T) {
	s := newSite(t, setup{acceptor: kdctest.AcceptorConfig{Refuse: kdctest.RefuseGoodWithAPRep}})
	s.load(s.usual("mutual_auth on"))
	for range 5 {
		a := s.get("/")
		if a.status != http.StatusUnauthorized || a.header.Get("X-Error") != "" || a.body != "authentication is required\n" {
			t.Fatalf("status %d, error %q, body %q", a.status, a.header.Get("X-Error"), a.body)
		}
		wantNoChallenge(t, a)
	}
	s.wantCounts(1, 1)
	if n := s.upstream.Requests.Load(); n != 5 {
		t.Errorf("%d requests reached the upstream, want 5", n)
	}
}

func TestNothingOfAHeldBackAnswerLeaks(t *testing.T) {
	s := newSite(t, setup{})
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
	a := s.get("/")
	if a.status != http.StatusOK || a.body != "second" {
		t.Fatalf("status %d, body %.50q", a.status, a.body)
	}
	if text := fmt.Sprint(a.header, a.trailer); strings.Contains(strings.ToLower(text), "held") {
		t.Fatalf("the first answer's header leaks: %s", text)
	}
}

func TestUpstreamMustProveItself(t *testing.T) {
	s := newSite(t, setup{})
	var earlier atomic.Value // a valid answer, to another token
	s.behind(func(w http.ResponseWriter, r *http.Request) {
		_, reply, err := s.acceptor.Accept(token(t, r), nil)
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
			s.t = t
			s.load(s.usual("mutual_auth " + row.mutual))
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url(row.path), nil)
			if err != nil {
				t.Fatal(err)
			}
			if row.path == "/missing-101" {
				r.Header.Set("Connection", "Upgrade")
				r.Header.Set("Upgrade", "echo")
			}
			a := s.do(r)
			wantNoChallenge(t, a)
			if row.ok {
				if a.status != http.StatusOK || a.body != "the secret body" {
					t.Fatalf("status %d, body %q", a.status, a.body)
				}
				return
			}
			a.wantError(t, http.StatusBadGateway, "mutual_auth_failed", "")
			if len(a.header["Set-Cookie"]) > 0 || a.header.Get("Content-Type") == "text/withheld" || a.header.Get("Upgrade") != "" {
				t.Fatalf("header of the withheld answer: %v", a.header)
			}
		})
	}
}

func TestRequiredProofComesWithRealAnswers(t *testing.T) {
	s := newSite(t, setup{})
	s.load(s.usual("mutual_auth required"))
	s.get("/").wantOK(t)
	s.changeServiceKey()
	s.get("/").wantOK(t)
}
