package integration

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// A refusal that is to be repeated is read only so far as its connection is worth.
func TestRefusalIsRepeatedHoweverItsBodyEnds(t *testing.T) {
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
			s := newSite(t, setup{})
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
			if a := s.get("/"); a.status != http.StatusOK || a.body != "second" {
				t.Errorf("handler: status %d, body %.50q", a.status, a.body)
			}
			s.run(s.target, "spn "+service)
			if a := s.get("/"); a.status != http.StatusOK || a.body != "second" {
				t.Errorf("transport: status %d, body %.50q", a.status, a.body)
			}
		})
	}
}

// Nobody waits for the end of an answer that is withheld: it may have none.
func TestUnprovenAnswerIsWithheldThoughItDoesNotEnd(t *testing.T) {
	s := newSite(t, setup{})
	s.behind(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", "Negotiate !!")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	s.load(s.usual("mutual_auth on"))
	s.get("/").wantError(t, http.StatusBadGateway, "mutual_auth_failed", "")
	s.run(s.target, "spn "+service)
	s.get("/").wantAnswer(t, http.StatusBadGateway, "mutual_auth_failed")
}

// A KRB-ERROR, which anybody can make, proves nothing; with a refusal it is the reason.
func TestErrorInPlaceOfTheProof(t *testing.T) {
	s := newSite(t, setup{})
	if err := s.acceptor.Update(func(c *kdctest.AcceptorConfig) { c.Keytab = s.keysOf(s.realm.AddService("HTTP/other.corp.example")) }); err != nil {
		t.Fatal(err)
	}
	s.behind(func(w http.ResponseWriter, r *http.Request) {
		_, reply, err := s.acceptor.Accept(token(t, r), nil)
		if err == nil || len(reply) == 0 {
			t.Errorf("%v, reply of %d octets", err, len(reply))
		}
		w.Header().Set("WWW-Authenticate", "Negotiate "+base64.StdEncoding.EncodeToString(reply))
		if r.URL.Path == "/refused" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = io.WriteString(w, "the secret body")
	})
	for _, mutual := range []string{"on", "required"} {
		s.load(s.usual("mutual_auth " + mutual))
		a := s.get("/")
		a.wantError(t, http.StatusBadGateway, "mutual_auth_failed", a.header.Get("X-Handled-Code"))
		if a.header.Get("X-Handled-Code") == "" {
			t.Error("the handler does not tell the code")
		}
		if a := s.get("/refused"); a.status != http.StatusUnauthorized {
			t.Errorf("handler, %s: %d %q", mutual, a.status, a.body)
		}
		s.run(s.target, "spn "+service, "mutual_auth "+mutual)
		s.get("/").wantAnswer(t, http.StatusBadGateway, "mutual_auth_failed")
		if a := s.get("/refused"); a.status != http.StatusUnauthorized {
			t.Errorf("transport, %s: %d %q", mutual, a.status, a.body)
		}
	}
}

// What stands beside a refusal needs no proof: handler and transport pass it on alike.
func TestRefusalWithGarbageIsPassedOn(t *testing.T) {
	s := newSite(t, setup{})
	s.behind(answering(http.StatusUnauthorized, "Negotiate !!"))
	for _, mutual := range []string{"on", "required"} {
		for name, load := range map[string]func(){
			"handler":   func() { s.load(s.usual("mutual_auth " + mutual)) },
			"transport": func() { s.run(s.target, "spn "+service, "mutual_auth "+mutual) },
		} {
			load()
			if a := s.get("/"); a.status != http.StatusUnauthorized || a.header.Get("X-Error") != "token_refused" {
				t.Errorf("%s, %s: %s", name, mutual, fmt.Sprint(a.status, a.header.Get("X-Error"), a.body))
			}
		}
	}
}
