package integration

import (
	"bufio"
	"net/http"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestAnswersStreamThrough(t *testing.T) {
	for _, mutual := range []string{"off", "required"} {
		t.Run("mutual_auth "+mutual, func(t *testing.T) {
			s := newSite(t, setup{})
			s.load(s.usual("mutual_auth " + mutual))
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url("/stream"), nil)
			if err != nil {
				t.Fatal(err)
			}
			s.upstream.Push("one")
			res, err := s.client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			lines := bufio.NewScanner(res.Body)
			for _, want := range []string{"one", "two", "three"} {
				if !lines.Scan() || lines.Text() != want {
					t.Fatalf("got %q (%v), want %s", lines.Text(), lines.Err(), want)
				}
				// Only now that this one has come is the next one sent.
				s.upstream.Push(map[string]string{"one": "two", "two": "three", "three": ""}[want])
			}
			if lines.Scan() {
				t.Fatalf("got %q after the end", lines.Text())
			}
		})
	}
}

func TestWebSocketPassesThrough(t *testing.T) {
	for _, mutual := range []string{"off", "required"} {
		t.Run("mutual_auth "+mutual, func(t *testing.T) {
			s := newSite(t, setup{})
			s.load(s.usual("mutual_auth " + mutual))
			s.changeServiceKeyAfterFirst()
			for range 2 { // the second after a refusal
				ws, res, err := kdctest.DialWebSocket(t.Context(), s.client(), s.url("/ws"), nil)
				if err != nil {
					t.Fatal(err)
				}
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
				ws.Close()
				s.changeServiceKey()
			}
		})
	}
}

// changeServiceKeyAfterFirst has a ticket fetched for a key that is then gone.
func (s *site) changeServiceKeyAfterFirst() {
	s.get("/").wantOK(s.t)
	s.changeServiceKey()
}

func TestPlaceholdersTellWhoCame(t *testing.T) {
	s := newSite(t, setup{})
	text := s.caddyfile(s.usual())
	const shown = "header >X-Who \"{http.negotiate.identity} {http.negotiate.principal} {http.negotiate.spn} {http.negotiate.etype} {http.negotiate.source} <{http.negotiate.error}>\"\n\tnegotiate {"
	text = replaceOnce(t, text, "negotiate {", shown)
	if err := s.loadFile(text); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"kdc", "cache"} {
		a := s.get("/")
		a.wantOK(t)
		want := principal + " " + principal + " " + service + " aes256-cts-hmac-sha1-96 " + source + " <>"
		if got := a.header.Get("X-Who"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
