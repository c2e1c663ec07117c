package faults

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

var upstreamFaults = []fault{
	{"upstream refuses at random", "200, or the upstream's 401 without a challenge; 2 tries a request, 6 exchanges for refusals", func(t *testing.T) {
		refuse(t, func() bool { return rand.IntN(2) == 0 }, 6, func(a caddytest.Answer) bool { return isServed(a) || isRefusal(a) })
	}},
	{"upstream refuses always", "the upstream's 401 without a challenge; 2 tries a request, 3 exchanges for refusals", func(t *testing.T) {
		refuse(t, func() bool { return true }, 3, isRefusal)
	}},
	{"upstream closes mid-body", "an answer that breaks off, never one that seems whole; then 200", func(t *testing.T) {
		e := newWarmEnv(t)
		if a, err := caddytest.Ask(e.Client(), e.Request(http.MethodGet, "/cut")); err == nil {
			t.Fatalf("half a body passes for a whole one: %v", a)
		}
		e.wantHeld()
	}},
	{"upstream's key changed", "200 by one repeat with a new ticket", func(t *testing.T) {
		e := newWarmEnv(t)
		e.ChangeServiceKey()
		e.wantServed()
		e.WantCounts(0, 1)
		e.wantHeld()
	}},
	{"upstream's key changed, KDC stopped", "the upstream's 401; the held ticket is kept; 200 when the KDC is back", func(t *testing.T) {
		e := newWarmEnv(t)
		e.ChangeServiceKey()
		if err := e.KDC.Interrupt(); err != nil {
			t.Fatal(err)
		}
		if a := e.Get("/"); !isRefusal(a) {
			t.Fatal(a)
		}
		if err := e.KDC.Start(); err != nil {
			t.Fatal(err)
		}
		caddytest.WaitFor(t, "the new key is served", func() bool { return isServed(e.Get("/")) })
	}},
	{"upstream challenges 10 000 times in a 401", "401 without a challenge, at once", func(t *testing.T) {
		e := newEnv(t)
		e.target = caddytest.Serve(t, &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := range 10000 {
				w.Header().Add("WWW-Authenticate", fmt.Sprintf("Negotiate %032d", i))
			}
			w.WriteHeader(http.StatusUnauthorized)
		})})
		e.load(e.usual())
		if a := e.Get("/"); !isRefusal(a) {
			t.Fatal(a)
		}
	}},
}

// isRefusal reports whether an answer is the upstream's own refusal, without a
// challenge, which would make a browser log in to it.
func isRefusal(a caddytest.Answer) bool {
	return a.Status == http.StatusUnauthorized && a.Header.Get("WWW-Authenticate") == ""
}

// refuse has the upstream refuse good tokens.
func refuse(t *testing.T, when func() bool, most int, ok func(caddytest.Answer) bool) {
	const requests = 200
	e := newWarmEnv(t)
	e.UpdateAcceptor(func(c *kdctest.AcceptorConfig) { c.Refuse, c.RefuseWhen = kdctest.RefuseGood, when })
	before := e.Upstream.Requests.Load()
	e.GetMany(requests, 8, "/", ok)
	if n := e.Upstream.Requests.Load() - before; n > 2*requests {
		t.Errorf("%d tries of %d requests", n, requests)
	}
	if c := e.KDC.Counts(); c.TGSRep > most {
		t.Errorf("%d exchanges for refused tokens", c.TGSRep)
	}
}
