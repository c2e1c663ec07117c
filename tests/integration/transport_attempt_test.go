package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// twoHosts are two upstreams with two services, by names that the transport's
// `resolvers` know.
func (s *site) twoHosts(how kdctest.UpstreamConfig) (a, b *server, upstreams, resolvers string) {
	s.T.Helper()
	a = s.serve("HTTP/a.corp.example", kdctest.AcceptorConfig{}, how)
	b = s.serve("HTTP/b.corp.example", kdctest.AcceptorConfig{}, how)
	dns := caddytest.StartDNS(s.T, map[string]string{"a.corp.example": "127.0.0.1", "b.corp.example": "127.0.0.1"})
	return a, b, "a.corp.example:" + caddytest.Port(a.Addr()) + " b.corp.example:" + caddytest.Port(b.Addr()), "resolvers " + dns
}

// wantClean fails if an acceptor refused a token or saw a request without one.
func (p *server) wantClean(t *testing.T) {
	t.Helper()
	if c := p.acceptor.Counts(); len(c.Refused) > 0 || c.Missing > 0 {
		t.Errorf("refused %v, %d without a token", c.Refused, c.Missing)
	}
}

func TestTransport_ServicePerUpstream(t *testing.T) {
	caddytest.LeakCheck(t)
	s := newSite(t, caddytest.Options{})
	a, b, upstreams, resolvers := s.twoHosts(kdctest.UpstreamConfig{})
	caddytest.Load(s.T, s.config("", proxying(upstreams, "lb_policy random", s.negotiating(resolvers))))
	s.GetMany(1000, 16, "/", func(a caddytest.Answer) bool { return a.IsUser(principal) })
	a.wantClean(t)
	b.wantClean(t)
	na, nb := a.acceptor.Counts().Accepted, b.acceptor.Counts().Accepted
	if na+nb != 1000 || na < 300 || nb < 300 {
		t.Errorf("%d and %d tokens accepted, want 1000 in all, to both", na, nb)
	}
	if c := s.KDC.Counts(); c.ASRep != 1 || c.TGSRep != 2 {
		t.Errorf("%d logins and %d tickets, want 1 and 2", c.ASRep, c.TGSRep)
	}
}

func TestTransport_UpstreamStops(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	a, b, upstreams, resolvers := s.twoHosts(kdctest.UpstreamConfig{})
	caddytest.Load(s.T, s.config("", proxying(upstreams,
		"lb_policy round_robin", "lb_retries 3", "fail_duration 1h", s.negotiating(resolvers))))
	client := s.Client()
	send := func(method string, i int) error {
		var body string
		if method == http.MethodPost {
			body = strings.Repeat("x", 1000)
		}
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL("/echo"), strings.NewReader(body))
		if err != nil {
			return err
		}
		answer, err := caddytest.Ask(client, r)
		if err == nil && (answer.Status != http.StatusOK || answer.Body != body) {
			err = fmt.Errorf("%s: %d %d bytes", method, answer.Status, len(answer.Body))
		}
		return err
	}
	// GETs continue while it stops: they may be sent again, wherever they were.
	var gone atomic.Bool
	caddytest.All(t, 400, 8, func(i int) error {
		if i == 100 && gone.CompareAndSwap(false, true) {
			a.Stop()
		}
		return send(http.MethodGet, i)
	})
	// A POST is sent again where nothing of it was sent: now it is gone.
	caddytest.All(t, 100, 8, func(i int) error { return send(http.MethodPost, i) })
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
func TestTransport_VariablesPerAttempt(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.run(s.Upstream.Addr(), "spn "+service, "network_proxy watching")
	s.Get("/").WantUser(t, principal)
	s.ChangeServiceKey()
	watched.Clear()
	s.Get("/").WantUser(t, principal)
	s.WantCounts(1, 2)
	n := 0
	watched.Range(func(any, any) bool { n++; return true })
	if n != 2 {
		t.Errorf("two attempts have %d sets of variables", n)
	}
}

// A server that closes idle connections makes net/http send requests once more by
// itself. The token of the first time must not go out again.
func TestTransport_FreshTokenPerAttempt(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	p := s.serve(service, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{})
	// Of each connection the second request arrives, token and all, and is not answered.
	relay := newRelay(t, p.Addr(), func(n int) bool { return n == 2 })
	s.run(relay, "spn "+service)
	client := s.Client()
	for range 20 {
		a, err := caddytest.Ask(client, s.Request(http.MethodGet, "/"))
		if err != nil {
			t.Fatal(err)
		}
		a.WantUser(t, principal)
	}
	if n := p.Requests.Load(); n < 30 {
		t.Fatalf("%d requests went out: nothing was sent again", n)
	}
	p.wantClean(t)
}

func TestTransport_KDCOutageIsNotTheUpstreams(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	p := s.serve(service, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{})
	s.KDC.Use(kdctest.TGS(kdctest.Reset()), kdctest.Silent())
	caddytest.Load(s.T, s.config("", proxying(p.Addr(), "max_fails 1", "fail_duration 1h",
		s.negotiating("spn "+service, "timeout 300ms", "use_tcp", "login_at_start off"))))
	a := s.Get("/")
	a.WantError(t, http.StatusServiceUnavailable, "kdc_unreachable")
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if n := p.Requests.Load(); n != 0 {
		t.Errorf("%d requests went out without a ticket", n)
	}
	s.KDC.ClearFaults()
	// The failure is remembered for a second, no longer.
	caddytest.WaitFor(t, "the failure is forgotten", func() bool { return s.Get("/").Status == http.StatusOK })

	s.KDC.Stop()
	for range 20 {
		s.Get("/").WantUser(t, principal) // by the ticket that is held
	}
	p.wantClean(t)
}

func TestTransport_ChangedServiceKey(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.run(s.Upstream.Addr(), "spn "+service)
	s.Get("/").WantUser(t, principal)
	var requests atomic.Int64
	s.GetMany(500, 16, "/", func(a caddytest.Answer) bool {
		if requests.Add(1) == 100 {
			s.ChangeServiceKey()
		}
		return a.Status == http.StatusOK
	})
	s.WantCounts(1, 2)
}
