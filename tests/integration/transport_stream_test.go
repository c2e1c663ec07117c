package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestTransportPassesWebSockets(t *testing.T) {
	for _, mutual := range []string{"off", "on", "required"} {
		t.Run("mutual_auth "+mutual, func(t *testing.T) {
			leakCheck(t)
			s := newSite(t, setup{})
			s.run(s.upstream.Addr(), "spn "+service, "mutual_auth "+mutual)
			s.changeServiceKeyAfterFirst()
			ws, res, err := kdctest.DialWebSocket(t.Context(), s.client(), s.url("/ws"), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			if v := res.Header.Values("WWW-Authenticate"); len(v) > 0 {
				t.Errorf("challenge %q", v)
			}
			for _, message := range []string{"hello", "again"} {
				if err := ws.WriteText(message); err != nil {
					t.Fatal(err)
				}
				if got, err := ws.ReadText(); err != nil || got != message {
					t.Fatalf("%q, %v", got, err)
				}
			}
		})
	}
}

func TestTransportPassesBodies(t *testing.T) {
	s := newSite(t, setup{})
	s.run(s.upstream.Addr(), "spn "+service)
	body := bytes.Repeat([]byte("0123456789"), 30_000)
	for name, reader := range map[string]io.Reader{
		"with length": bytes.NewReader(body),
		"chunked":     struct{ io.Reader }{bytes.NewReader(body)},
	} {
		if a := s.post("/echo", reader); a.status != http.StatusOK || a.body != string(body) {
			t.Errorf("%s: %d, %d bytes", name, a.status, len(a.body))
		}
	}
	s.wantCounts(1, 1)
}

func TestTransportRepeatsBodiesThatItKept(t *testing.T) {
	s := newSite(t, setup{})
	s.run(s.upstream.Addr(), "spn "+service, "replay_buffer 1KiB")
	s.get("/").wantOK(t)
	small, large := strings.Repeat("x", 1024), strings.Repeat("x", 300_000)
	for _, row := range []struct {
		name   string
		body   io.Reader
		status int
		echo   string
	}{
		{"small", strings.NewReader(small), http.StatusOK, small},
		{"small chunked", struct{ io.Reader }{strings.NewReader(small)}, http.StatusOK, small},
		{"large", strings.NewReader(large), http.StatusUnauthorized, ""},
		{"large chunked", struct{ io.Reader }{strings.NewReader(large)}, http.StatusUnauthorized, ""},
	} {
		s.changeServiceKey()
		a := s.post("/echo", row.body)
		// A refusal may come before anything of the body was sent: then it can be
		// repeated whatever its length.
		if row.status == http.StatusUnauthorized && a.status == http.StatusOK && a.body == large {
			continue
		}
		if a.status != row.status || row.echo != "" && a.body != row.echo {
			t.Errorf("%s: %d, %d bytes, want %d", row.name, a.status, len(a.body), row.status)
		}
		s.get("/").wantOK(t)
	}
}

func TestTransportStreamsAnswers(t *testing.T) {
	s := newSite(t, setup{})
	s.run(s.upstream.Addr(), "spn "+service, "mutual_auth required")
	s.upstream.Push("one")
	res, err := s.client().Do(s.request(http.MethodGet, "/stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for _, step := range [][2]string{{"one", "two"}, {"two", "three"}, {"three", ""}} {
		if !lines.Scan() || lines.Text() != step[0] {
			t.Fatalf("got %q (%v), want %s", lines.Text(), lines.Err(), step[0])
		}
		s.upstream.Push(step[1]) // only now that the one before has come
	}
	if lines.Scan() {
		t.Fatalf("got %q after the end", lines.Text())
	}
}

// A client may send on while the answer already comes.
func TestTransportStreamsBothWays(t *testing.T) {
	s := newSite(t, setup{})
	s.run(s.upstream.Addr(), "spn "+service)
	in, out := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url("/echo"), in)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(out, "first\n") }()
	res, err := s.client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for _, step := range [][2]string{{"first", "second\n"}, {"second", "third\n"}, {"third", ""}} {
		if !lines.Scan() || lines.Text() != step[0] {
			t.Fatalf("got %q (%v), want %s", lines.Text(), lines.Err(), step[0])
		}
		if step[1] == "" {
			out.Close()
		} else if _, err := io.WriteString(out, step[1]); err != nil {
			t.Fatal(err)
		}
	}
	if lines.Scan() {
		t.Fatalf("got %q after the end", lines.Text())
	}
}

func TestTransportPassesTrailersButNotAuthorization(t *testing.T) {
	for _, declared := range []bool{true, false} {
		t.Run(fmt.Sprintf("declared %t", declared), func(t *testing.T) {
			s := newSite(t, setup{})
			got := make(chan http.Header, 1)
			s.behind(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				got <- r.Trailer
			})
			s.run(s.target, "spn "+service)
			head := "Trailer: X-Sum, Authorization\n"
			if !declared {
				head = "Trailer: X-Sum\n"
			}
			s.raw("POST / HTTP/1.1\nHost: " + s.address + "\n" + head + "Transfer-Encoding: chunked\n" +
				"Connection: close, Authorization\n\n3\nabc\n0\nX-Sum: 6\nAuthorization: Basic YTpi\n\n")
			trailer := <-got
			if trailer.Get("X-Sum") != "6" {
				t.Errorf("trailer %q, want X-Sum", trailer)
			}
			if v := trailer.Values("Authorization"); len(v) > 0 {
				t.Errorf("the upstream got Authorization %q", v)
			}
		})
	}
}

// Every attempt's body is guarded, whichever of them reads the client's to its end.
func TestTransportKeepsAuthorizationOutOfTrailersOfRepeats(t *testing.T) {
	s := newSite(t, setup{})
	got := make(chan http.Header, 8)
	s.behind(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r.Trailer
		if len(r.Trailer) > 0 && r.URL.Query().Has("refuse") {
			w.Header().Set("WWW-Authenticate", "Negotiate")
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	s.run(s.target, "spn "+service)
	s.raw("PUT /?refuse HTTP/1.1\nHost: " + s.address + "\nTrailer: X-Sum, Authorization\nTransfer-Encoding: chunked\n" +
		"Connection: close\n\n3\nabc\n0\nX-Sum: 6\nAuthorization: Basic YTpi\n\n")
	for range 2 {
		trailer := <-got
		if trailer.Get("X-Sum") != "6" || len(trailer.Values("Authorization")) > 0 {
			t.Errorf("the upstream got the trailer %q", trailer)
		}
	}
}

func TestTransportDropsChallengesFromHeadersAndTrailers(t *testing.T) {
	for _, declared := range []bool{true, false} {
		t.Run(fmt.Sprintf("declared %t", declared), func(t *testing.T) {
			s := newSite(t, setup{})
			s.behind(func(w http.ResponseWriter, r *http.Request) {
				h, prefix := w.Header(), http.TrailerPrefix
				for _, challenge := range []string{"NTLM", "Negotiate, Basic realm=\"x\"", "Bearer"} {
					h.Add("WWW-Authenticate", challenge)
				}
				h.Set("Authentication-Info", "nextnonce=1")
				h.Set("Persistent-Auth", "true")
				if declared {
					h.Set("Trailer", "X-Sum, WWW-Authenticate, Persistent-Auth")
					prefix = ""
				}
				_, _ = io.WriteString(w, "body")
				_ = http.NewResponseController(w).Flush()
				h.Set(prefix+"X-Sum", "6")
				h.Set(prefix+"WWW-Authenticate", "NTLM")
				h.Set(prefix+"Persistent-Auth", "false")
			})
			s.run(s.target, "spn "+service)
			a := s.get("/")
			if a.status != http.StatusOK || a.body != "body" || a.trailer.Get("X-Sum") != "6" {
				t.Errorf("%d %q, trailer %q", a.status, a.body, a.trailer)
			}
			for _, name := range []string{"WWW-Authenticate", "Authentication-Info", "Persistent-Auth"} {
				if v := append(a.header.Values(name), a.trailer.Values(name)...); len(v) > 0 {
					t.Errorf("%s %q", name, v)
				}
			}
			if v := a.header.Get("Trailer"); strings.Contains(v, textproto.CanonicalMIMEHeaderKey("WWW-Authenticate")) {
				t.Errorf("Trailer announces %q", v)
			}
		})
	}
}

func TestTransportPassesExpectContinue(t *testing.T) {
	s := newSite(t, setup{})
	s.run(s.upstream.Addr(), "spn "+service, "expect_continue_timeout 10s")
	body := strings.Repeat("x", 300_000)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url("/echo"), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Expect", "100-continue")
	if a := s.do(r); a.status != http.StatusOK || a.body != body {
		t.Fatalf("%d, %d bytes", a.status, len(a.body))
	}
	// Refused before any of it was sent, even a body beyond replay_buffer is repeated.
	s.changeServiceKey()
	r, err = http.NewRequestWithContext(t.Context(), http.MethodPost, s.url("/echo"), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Expect", "100-continue")
	if a := s.do(r); a.status != http.StatusOK || a.body != body {
		t.Fatalf("after the service's key changed: %d, %d bytes", a.status, len(a.body))
	}
}

func TestTransportLetsNoAuthorizationThrough(t *testing.T) {
	s := newSite(t, setup{})
	got := make(chan http.Header, 1)
	s.behind(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header })
	s.run(s.target, "spn "+service)
	for _, connection := range []string{"close", "close, authorization"} {
		s.raw("GET / HTTP/1.1\nHost: " + s.address + "\nConnection: " + connection +
			"\nAuthorization: Basic YTpi\nauthorization: Bearer x\n\n")
		h := <-got
		if v := h.Values("Authorization"); len(v) != 1 || !strings.HasPrefix(v[0], "Negotiate ") {
			t.Errorf("the upstream got %q", v)
		}
	}
}
