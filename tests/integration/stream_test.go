package integration

import (
	"bufio"
	"net/http"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestStream_Answer(t *testing.T) {
	inBothForms(t, func(t *testing.T, s *site, load loader) {
		for _, mutual := range []string{"off", "required"} {
			load(s.target, "mutual_auth "+mutual)
			s.Upstream.Push("one")
			wantStream(t, s.Client(), s.URL("/stream"), s.Upstream.Push)
		}
	})
}

// wantStream reads the lines one, two and three, and has each sent only when the one
// before has arrived.
func wantStream(t *testing.T, client *http.Client, url string, push func(line string)) {
	t.Helper()
	res, err := client.Do(caddytest.Request(t, http.MethodGet, url))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for _, step := range [][2]string{{"one", "two"}, {"two", "three"}, {"three", ""}} {
		if !lines.Scan() || lines.Text() != step[0] {
			t.Fatalf("got %q (%v), want %s", lines.Text(), lines.Err(), step[0])
		}
		push(step[1])
	}
	if lines.Scan() {
		t.Fatalf("got %q after the end", lines.Text())
	}
}

func TestStream_WebSocket(t *testing.T) {
	inBothForms(t, func(t *testing.T, s *site, load loader) {
		for _, mutual := range []string{"off", "on", "required"} {
			load(s.target, "mutual_auth "+mutual)
			s.changeServiceKeyAfterFirst() // so that the upgrade is refused first
			wantWebSocket(t, s.Client(), s.URL("/ws"))
		}
	})
}

// wantWebSocket sends messages to a WebSocket that echoes them.
func wantWebSocket(t *testing.T, client *http.Client, url string) {
	t.Helper()
	ws, res, err := kdctest.DialWebSocket(t.Context(), client, url, nil)
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
}

// changeServiceKeyAfterFirst has a ticket fetched for a key that is then gone.
func (s *site) changeServiceKeyAfterFirst() {
	s.Get("/").WantUser(s.T, principal)
	s.ChangeServiceKey()
}

func TestPlaceholders(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	text := s.caddyfile(s.usual())
	const shown = "header >X-Who \"{http.negotiate.identity} {http.negotiate.principal} {http.negotiate.spn} {http.negotiate.etype} {http.negotiate.source} <{http.negotiate.error}>\"\n\tnegotiate {"
	text = replaceOnce(t, text, "negotiate {", shown)
	if err := caddytest.TryLoad(s.T, text); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"kdc", "cache"} {
		a := s.Get("/")
		a.WantUser(t, principal)
		want := principal + " " + principal + " " + service + " aes256-cts-hmac-sha1-96 " + source + " <>"
		if got := a.Header.Get("X-Who"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
