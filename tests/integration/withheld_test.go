package integration

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// A refusal that is to be repeated is read only so far as its connection is worth.
func TestRefusal_BrokenBody(t *testing.T) {
	for name, body := range map[string]func(w http.ResponseWriter, r *http.Request){
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half of")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := io.WriteString(w, strings.Repeat("refused ", 1000)); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, caddytest.Options{})
			var n atomic.Int64
			s.behind(func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1)%2 == 0 {
					_, _ = io.WriteString(w, "second")
					return
				}
				w.Header().Set("WWW-Authenticate", "Negotiate")
				w.WriteHeader(http.StatusUnauthorized)
				body(w, r)
			})
			s.load(s.usual())
			if a := s.Get("/"); a.Status != http.StatusOK || a.Body != "second" {
				t.Errorf("handler: status %d, body %.50q", a.Status, a.Body)
			}
			s.run(s.target, "spn "+service)
			if a := s.Get("/"); a.Status != http.StatusOK || a.Body != "second" {
				t.Errorf("transport: status %d, body %.50q", a.Status, a.Body)
			}
		})
	}
}

// No request waits for the end of an answer that is withheld: it may have none.
func TestMutualAuth_EndlessAnswer(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.behind(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", "Negotiate !!")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	s.load(s.usual("mutual_auth on"))
	s.Get("/").WantError(t, http.StatusBadGateway, "mutual_auth_failed", "")
	s.run(s.target, "spn "+service)
	s.Get("/").WantError(t, http.StatusBadGateway, "mutual_auth_failed")
}

// A KRB-ERROR, which anyone can forge, proves nothing; with a refusal it is the reason.
func TestMutualAuth_ErrorInsteadOfProof(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.UpdateAcceptor(func(c *kdctest.AcceptorConfig) { c.Keytab = s.KeysOf(s.Realm.AddService("HTTP/other.corp.example")) })
	s.behind(func(w http.ResponseWriter, r *http.Request) {
		_, reply, err := s.Acceptor.Accept(token(t, r), nil)
		if err == nil || len(reply) == 0 {
			t.Errorf("%v, reply of %d bytes", err, len(reply))
		}
		w.Header().Set("WWW-Authenticate", "Negotiate "+base64.StdEncoding.EncodeToString(reply))
		if r.URL.Path == "/refused" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = io.WriteString(w, "the secret body")
	})
	for _, mutual := range []string{"on", "required"} {
		s.load(s.usual("mutual_auth " + mutual))
		a := s.Get("/")
		a.WantError(t, http.StatusBadGateway, "mutual_auth_failed", a.Header.Get("X-Error-Code"))
		if a.Header.Get("X-Error-Code") == "" {
			t.Error("the handler does not tell the code")
		}
		if a := s.Get("/refused"); a.Status != http.StatusUnauthorized {
			t.Errorf("handler, %s: %d %q", mutual, a.Status, a.Body)
		}
		s.run(s.target, "spn "+service, "mutual_auth "+mutual)
		s.Get("/").WantError(t, http.StatusBadGateway, "mutual_auth_failed")
		if a := s.Get("/refused"); a.Status != http.StatusUnauthorized {
			t.Errorf("transport, %s: %d %q", mutual, a.Status, a.Body)
		}
	}
}

// A refusal needs no proof: handler and transport both pass it on.
func TestMutualAuth_GarbageBesideRefusal(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.behind(answering(http.StatusUnauthorized, "Negotiate !!"))
	for _, mutual := range []string{"on", "required"} {
		for name, load := range map[string]func(){
			"handler":   func() { s.load(s.usual("mutual_auth " + mutual)) },
			"transport": func() { s.run(s.target, "spn "+service, "mutual_auth "+mutual) },
		} {
			load()
			if a := s.Get("/"); a.Status != http.StatusUnauthorized || a.Word() != "token_refused" {
				t.Errorf("%s, %s: %s", name, mutual, fmt.Sprint(a.Status, a.Word(), a.Body))
			}
		}
	}
}
