package integration

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestHealthChecks_Authenticated(t *testing.T) {
	for _, spn := range []string{
		"", "spn HTTP/web.corp.example", "spn HTTP/{rp.upstream.host}",
		"spn HTTP/{http.request.host}\nallow_spns HTTP/*",
	} {
		t.Run(spn, func(t *testing.T) {
			s := newSite(t, caddytest.Options{})
			var checks atomic.Int64
			p := s.serve(service, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{Handler: http.HandlerFunc(
				func(_ http.ResponseWriter, r *http.Request) {
					if who, ok := kdctest.PeerFrom(r.Context()); ok && who.Principal == principal && r.URL.Path == "/health" {
						checks.Add(1)
					}
				})})
			dns := caddytest.StartDNS(t, map[string]string{"web.corp.example": "127.0.0.1"})
			caddytest.Load(s.T, s.config("", proxying("web.corp.example:"+caddytest.Port(p.Addr()),
				"health_uri /health", "health_interval 50ms", "health_passes 1", s.negotiating("resolvers "+dns, spn))))
			caddytest.WaitFor(t, "three health checks have arrived", func() bool { return checks.Load() >= 3 })
			p.wantClean(t)
		})
	}
}

func TestHealthChecks_WithoutTicket(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.KDC.Use(kdctest.TGS(kdctest.Fail(7))) // KDC_ERR_S_PRINCIPAL_UNKNOWN
	if err := s.KDC.Interrupt(); err != nil {
		t.Fatal(err)
	}
	caddytest.Load(s.T, s.config("", proxying(s.Upstream.Addr(), "health_uri /json", "health_interval 50ms", "health_passes 1",
		s.negotiating("spn "+service, "timeout 300ms", "use_tcp", "login_at_start off"))))
	s.Log.Await(t, `HTTP request failed`, 1)
	if a := s.Get("/"); a.Status != http.StatusServiceUnavailable || s.Upstream.Requests.Load() != 0 {
		t.Fatalf("%d, %d requests to the upstream", a.Status, s.Upstream.Requests.Load())
	}
	s.KDC.ClearFaults()
	if err := s.KDC.Start(); err != nil {
		t.Fatal(err)
	}
	caddytest.WaitFor(t, "the upstream is healthy", func() bool { return s.Get("/").Status == http.StatusOK })
	if c := s.Acceptor.Counts(); c.Missing > 0 || len(c.Refused) > 0 {
		t.Errorf("%d without a token, refused %v", c.Missing, c.Refused)
	}
}

func TestReload_UnderLoad(t *testing.T) {
	caddytest.LeakCheck(t)
	s := newSite(t, caddytest.Options{})
	load := func(timeout int) {
		caddytest.Load(s.T, s.config("", proxying(s.Upstream.Addr(), s.negotiating("spn "+service, fmt.Sprintf("timeout %ds", timeout)))))
	}
	load(5)
	client := s.Client()
	// Caddy drops connections that come while it replaces a server, whatever that
	// serves. What counts is that each answer is the right one.
	persistent := func() (a caddytest.Answer, err error) {
		for range 20 {
			if a, err = caddytest.Ask(client, s.Request(http.MethodGet, "/")); err == nil {
				break
			}
		}
		return a, err
	}

	var done atomic.Bool
	var asked atomic.Int64
	finished := make(chan []error)
	go func() {
		finished <- caddytest.Parallel(1<<30, 8, func(int) error {
			if done.Load() {
				return caddytest.ErrStop
			}
			asked.Add(1)
			a, err := persistent()
			if err == nil && a.Status != http.StatusOK {
				err = fmt.Errorf("%d %q", a.Status, a.Body)
			}
			return err
		})
	}()
	for i := range 50 {
		load(6 + i)
	}
	done.Store(true)
	if errs := must.Receive(t, "the end of the requests", finished); len(errs) > 0 {
		t.Fatalf("%d of %d requests failed, first: %v", len(errs), asked.Load(), errs[0])
	}
	s.WantCounts(1, 1)
	if c := s.Acceptor.Counts(); int64(c.Accepted) < asked.Load() || c.Missing > 0 || len(c.Refused) > 0 {
		t.Errorf("%d requests: %d accepted, %d without a token, refused %v", asked.Load(), c.Accepted, c.Missing, c.Refused)
	}
}

func TestStop_ConnectionsClosed(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	var open atomic.Int64
	server := httptest.NewUnstartedServer(s.Acceptor.Protect(http.HandlerFunc(kdctest.WhoHandler)))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	for _, end := range []func(){
		func() { s.run(s.Upstream.Addr(), "spn "+service) },
		func() { _ = caddy.Stop() },
	} {
		s.run(server.Listener.Addr().String(), "spn "+service)
		s.GetMany(50, 8, "/", isOK)
		if open.Load() == 0 {
			t.Fatal("no connection was kept")
		}
		end()
		caddytest.WaitFor(t, "all connections are closed", func() bool { return open.Load() == 0 })
	}
}
