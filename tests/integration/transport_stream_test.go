package integration

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestTransport_BodiesRepeated(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.run(s.Upstream.Addr(), "spn "+service, "replay_buffer 1KiB")
	s.Get("/").WantUser(t, principal)
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
		s.ChangeServiceKey()
		a := s.post("/echo", row.body)
		// A refusal may come before anything of the body was sent: then it can be
		// repeated whatever its length.
		if row.status == http.StatusUnauthorized && a.Status == http.StatusOK && a.Body == large {
			continue
		}
		if a.Status != row.status || row.echo != "" && a.Body != row.echo {
			t.Errorf("%s: %d, %d bytes, want %d", row.name, a.Status, len(a.Body), row.status)
		}
		s.Get("/").WantUser(t, principal)
	}
}

// A client may send on while the answer already comes.
func TestTransport_StreamsBothWays(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.run(s.Upstream.Addr(), "spn "+service)
	in, out := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL("/echo"), in)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(out, "first\n") }()
	res, err := s.Client().Do(r)
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

// Every attempt's body is guarded, whichever of them reads the client's to its end.
func TestTransport_TrailersOfRepeats(t *testing.T) {
	s := newSite(t, caddytest.Options{})
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
	s.raw("PUT /?refuse HTTP/1.1\nHost: " + s.Addr + "\nTrailer: X-Sum, Authorization\nTransfer-Encoding: chunked\n" +
		"Connection: close\n\n3\nabc\n0\nX-Sum: 6\nAuthorization: Basic YTpi\n\n")
	for range 2 {
		trailer := must.Receive(t, "the trailer", got)
		if trailer.Get("X-Sum") != "6" || len(trailer.Values("Authorization")) > 0 {
			t.Errorf("the upstream got the trailer %q", trailer)
		}
	}
}

func TestTransport_ExpectContinue(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.run(s.Upstream.Addr(), "spn "+service, "expect_continue_timeout 10s")
	body := strings.Repeat("x", 300_000)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL("/echo"), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Expect", "100-continue")
	if a := caddytest.Do(s.T, r); a.Status != http.StatusOK || a.Body != body {
		t.Fatalf("%d, %d bytes", a.Status, len(a.Body))
	}
	// Refused before any of it was sent, even a body beyond replay_buffer is repeated.
	s.ChangeServiceKey()
	r, err = http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL("/echo"), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Expect", "100-continue")
	if a := caddytest.Do(s.T, r); a.Status != http.StatusOK || a.Body != body {
		t.Fatalf("after the service's key changed: %d, %d bytes", a.Status, len(a.Body))
	}
}
