package integration

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// twoHosts are two upstreams with two services, by names that the transport's
// `resolvers` know.
func (s *site) twoHosts(how kdctest.UpstreamConfig) (a, b *peer, upstreams, resolvers string) {
	s.t.Helper()
	a = s.serve("HTTP/a.corp.example", kdctest.AcceptorConfig{}, how)
	b = s.serve("HTTP/b.corp.example", kdctest.AcceptorConfig{}, how)
	dns := nameServer(s.t, map[string]string{"a.corp.example": "127.0.0.1", "b.corp.example": "127.0.0.1"})
	return a, b, "a.corp.example:" + a.port() + " b.corp.example:" + b.port(), "resolvers " + dns
}

// wantClean fails if an acceptor refused a token or saw a request without one.
func (p *peer) wantClean(t *testing.T) {
	t.Helper()
	if c := p.acceptor.Counts(); len(c.Refused) > 0 || c.Missing > 0 {
		t.Errorf("refused %v, %d without a token", c.Refused, c.Missing)
	}
}

func TestTransportAuthenticatesToEachUpstreamAsItsOwnService(t *testing.T) {
	leakCheck(t)
	s := newSite(t, setup{})
	a, b, upstreams, resolvers := s.twoHosts(kdctest.UpstreamConfig{})
	s.mustLoad(s.config("", proxying(upstreams, "lb_policy random", s.negotiating(resolvers))))
	client := s.client()
	errs := traffic(1000, 16, func(int) error {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url("/"), nil)
		if err != nil {
			return err
		}
		answer, err := ask(client, r)
		if err == nil && (answer.status != http.StatusOK || answer.body != principal+"\n") {
			err = fmt.Errorf("%d %q", answer.status, answer.body)
		}
		return err
	})
	if len(errs) > 0 {
		t.Fatalf("%d requests failed, first: %v", len(errs), errs[0])
	}
	a.wantClean(t)
	b.wantClean(t)
	na, nb := a.acceptor.Counts().Accepted, b.acceptor.Counts().Accepted
	if na+nb != 1000 || na < 300 || nb < 300 {
		t.Errorf("%d and %d tokens accepted, want 1000 in all, to both", na, nb)
	}
	if c := s.kdc.Counts(); c.ASRep != 1 || c.TGSRep != 2 {
		t.Errorf("%d logins and %d tickets, want 1 and 2", c.ASRep, c.TGSRep)
	}
}

func TestTransportSurvivesAnUpstreamThatGoesAway(t *testing.T) {
	s := newSite(t, setup{})
	a, b, upstreams, resolvers := s.twoHosts(kdctest.UpstreamConfig{})
	s.mustLoad(s.config("", proxying(upstreams,
		"lb_policy round_robin", "lb_retries 3", "fail_duration 1h", s.negotiating(resolvers))))
	client := s.client()
	send := func(method string, i int) error {
		var body string
		if method == http.MethodPost {
			body = strings.Repeat("x", 1000)
		}
		r, err := http.NewRequestWithContext(t.Context(), method, s.url("/echo"), strings.NewReader(body))
		if err != nil {
			return err
		}
		answer, err := ask(client, r)
		if err == nil && (answer.status != http.StatusOK || answer.body != body) {
			err = fmt.Errorf("%s: %d %d bytes", method, answer.status, len(answer.body))
		}
		return err
	}
	// GETs go on while it goes away: they may be sent again, wherever they were.
	var gone atomic.Bool
	errs := traffic(400, 8, func(i int) error {
		if i == 100 && gone.CompareAndSwap(false, true) {
			a.Stop()
		}
		return send(http.MethodGet, i)
	})
	// A POST is sent again where nothing of it was sent: now nobody is there.
	errs = append(errs, traffic(100, 8, func(i int) error { return send(http.MethodPost, i) })...)
	if len(errs) > 0 {
		t.Fatalf("%d requests failed, first: %v", len(errs), errs[0])
	}
	a.wantClean(t)
	b.wantClean(t)
}

// watchingProxy is a network_proxy that leads nowhere, and shows Caddy's variables of each
// attempt. Caddy writes to them where one leads somewhere.
type watchingProxy struct{}

var watched sync.Map // the maps' addresses

func init() { caddy.RegisterModule(watchingProxy{}) }

func (watchingProxy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.network_proxy.watching", New: func() caddy.Module { return new(watchingProxy) }}
}

func (*watchingProxy) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (*watchingProxy) ProxyFunc() func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		watched.Store(reflect.ValueOf(r.Context().Value(caddyhttp.VarsCtxKey)).Pointer(), true)
		return nil, nil
	}
}

// A connection that net/http began to make for the first attempt, and did not need, may
// read the variables for as long as it likes.
func TestTransportsRepeatHasVariablesOfItsOwn(t *testing.T) {
	s := newSite(t, setup{})
	s.run(s.upstream.Addr(), "spn "+service, "network_proxy watching")
	s.get("/").wantOK(t)
	s.changeServiceKey()
	watched.Clear()
	s.get("/").wantOK(t)
	s.wantCounts(1, 2)
	n := 0
	watched.Range(func(any, any) bool { n++; return true })
	if n != 2 {
		t.Errorf("two attempts have %d sets of variables", n)
	}
}

// A server that closes idle connections makes net/http send requests once more by
// itself. The token of the first time must not go out again.
func TestTransportSendsFreshTokenWhenKeptConnectionIsDead(t *testing.T) {
	s := newSite(t, setup{})
	p := s.serve(service, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{})
	// Of each connection the second request arrives, token and all, and is not answered.
	relay := newRelay(t, p.Addr(), func(n int) bool { return n == 2 })
	s.run(relay, "spn "+service)
	client := s.client()
	for range 20 {
		a, err := ask(client, s.request(http.MethodGet, "/"))
		if err != nil {
			t.Fatal(err)
		}
		a.wantOK(t)
	}
	if n := p.Requests.Load(); n < 30 {
		t.Fatalf("%d requests went out: nothing was sent again", n)
	}
	p.wantClean(t)
}

func TestTransportBlamesNoUpstreamForTheKDC(t *testing.T) {
	s := newSite(t, setup{})
	p := s.serve(service, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{})
	s.kdc.Use(kdctest.TGS(kdctest.Reset()), kdctest.Silent())
	s.mustLoad(s.config("", proxying(p.Addr(), "max_fails 1", "fail_duration 1h",
		s.negotiating("spn "+service, "timeout 300ms", "use_tcp", "login_at_start off"))))
	a := s.get("/")
	a.wantAnswer(t, http.StatusServiceUnavailable, "kdc_unreachable")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if n := p.Requests.Load(); n != 0 {
		t.Errorf("%d requests went out without a ticket", n)
	}
	s.kdc.ClearFaults()
	// The failure is remembered for a second, no longer.
	within(t, func() bool { return s.get("/").status == http.StatusOK })

	s.kdc.Stop()
	for range 20 {
		s.get("/").wantOK(t) // by the ticket that is held
	}
	p.wantClean(t)
}

// within asks until it is so, for no longer than a loaded machine may take.
func within(t *testing.T, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it never came to be")
		}
	}
}

func TestTransportTakesOneNewTicketForAChangedServiceKey(t *testing.T) {
	s := newSite(t, setup{})
	s.run(s.upstream.Addr(), "spn "+service)
	s.get("/").wantOK(t)
	client := s.client()
	var changed atomic.Bool
	errs := traffic(500, 16, func(i int) error {
		if i == 100 && changed.CompareAndSwap(false, true) {
			s.changeServiceKey()
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url("/"), nil)
		if err != nil {
			return err
		}
		a, err := ask(client, r)
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("%d %q", a.status, a.body)
		}
		return err
	})
	if len(errs) > 0 {
		t.Fatalf("%d requests failed, first: %v", len(errs), errs[0])
	}
	s.wantCounts(1, 2)
}

func TestTransportRefusalsTakeFewTickets(t *testing.T) {
	for _, row := range []struct {
		name   string
		refuse kdctest.Refusal
		most   int
	}{
		{"bare", kdctest.RefuseGood, 3},
		{"with proof", kdctest.RefuseGoodWithAPRep, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t, setup{acceptor: kdctest.AcceptorConfig{Refuse: row.refuse}})
			s.run(s.upstream.Addr(), "spn "+service)
			client := s.client()
			begin := time.Now()
			errs := traffic(10_000, 16, func(int) error {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url("/"), nil)
				if err != nil {
					return err
				}
				a, err := ask(client, r)
				if err == nil && (a.status != http.StatusUnauthorized || len(a.header.Values("WWW-Authenticate")) > 0) {
					err = fmt.Errorf("%d %q", a.status, a.header)
				}
				return err
			})
			if len(errs) > 0 {
				t.Fatalf("%d requests failed, first: %v", len(errs), errs[0])
			}
			// Three in a row, and then one in thirty seconds: five in a minute.
			most := row.most + min(row.most, 1)*int(time.Since(begin)/(30*time.Second))
			if n := s.kdc.Counts().TGSRep - 1; n > most {
				t.Fatalf("%d new tickets, want at most %d", n, most)
			}
		})
	}
}
