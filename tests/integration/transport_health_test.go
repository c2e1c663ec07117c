package integration

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestTransportAuthenticatesHealthChecks(t *testing.T) {
	for _, spn := range []string{
		"", "spn HTTP/web.corp.example", "spn HTTP/{rp.upstream.host}",
		"spn HTTP/{http.request.host}\nallow_spns HTTP/*",
	} {
		t.Run(spn, func(t *testing.T) {
			s := newSite(t, setup{})
			var checks atomic.Int64
			p := s.serve(service, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{Handler: http.HandlerFunc(
				func(_ http.ResponseWriter, r *http.Request) {
					if who, ok := kdctest.PeerFrom(r.Context()); ok && who.Principal == principal && r.URL.Path == "/health" {
						checks.Add(1)
					}
				})})
			dns := nameServer(t, map[string]string{"web.corp.example": "127.0.0.1"})
			s.mustLoad(s.config("", proxying("web.corp.example:"+p.port(),
				"health_uri /health", "health_interval 50ms", "health_passes 1", s.negotiating("resolvers "+dns, spn))))
			within(t, func() bool { return checks.Load() >= 3 })
			p.wantClean(t)
		})
	}
}

func TestTransportFailsHealthChecksWhileThereIsNoTicket(t *testing.T) {
	s := newSite(t, setup{})
	s.kdc.Use(kdctest.TGS(kdctest.Fail(7))) // KDC_ERR_S_PRINCIPAL_UNKNOWN
	if err := s.kdc.Interrupt(); err != nil {
		t.Fatal(err)
	}
	s.mustLoad(s.config("", proxying(s.upstream.Addr(), "health_uri /json", "health_interval 50ms", "health_passes 1",
		s.negotiating("spn "+service, "timeout 300ms", "use_tcp", "login_at_start off"))))
	s.log.await(t, `HTTP request failed`)
	if a := s.get("/"); a.status != http.StatusServiceUnavailable || s.upstream.Requests.Load() != 0 {
		t.Fatalf("%d, %d requests to the upstream", a.status, s.upstream.Requests.Load())
	}
	s.kdc.ClearFaults()
	if err := s.kdc.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, func() bool { return s.get("/").status == http.StatusOK })
	if c := s.acceptor.Counts(); c.Missing > 0 || len(c.Refused) > 0 {
		t.Errorf("%d without a token, refused %v", c.Missing, c.Refused)
	}
}

func TestTransportOutlivesReloadsUnderTraffic(t *testing.T) {
	leakCheck(t)
	s := newSite(t, setup{})
	load := func(timeout int) {
		s.mustLoad(s.config("", proxying(s.upstream.Addr(), s.negotiating("spn "+service, fmt.Sprintf("timeout %ds", timeout)))))
	}
	load(5)
	client := s.client()
	// Caddy drops connections that come while it replaces a server, whatever that
	// serves. What counts is that each answer is the right one.
	persistent := func() (a answer, err error) {
		for range 20 {
			if a, err = ask(client, s.request(http.MethodGet, "/")); err == nil {
				break
			}
		}
		return a, err
	}

	var done atomic.Bool
	var asked atomic.Int64
	finished := make(chan []error)
	go func() {
		finished <- traffic(1<<30, 8, func(int) error {
			if done.Load() {
				return errStop
			}
			asked.Add(1)
			a, err := persistent()
			if err == nil && a.status != http.StatusOK {
				err = fmt.Errorf("%d %q", a.status, a.body)
			}
			return err
		})
	}()
	for i := range 50 {
		load(6 + i)
	}
	done.Store(true)
	if errs := <-finished; len(errs) > 0 {
		t.Fatalf("%d of %d requests failed, first: %v", len(errs), asked.Load(), errs[0])
	}
	s.wantCounts(1, 1)
	if c := s.acceptor.Counts(); int64(c.Accepted) < asked.Load() || c.Missing > 0 || len(c.Refused) > 0 {
		t.Errorf("%d requests: %d accepted, %d without a token, refused %v", asked.Load(), c.Accepted, c.Missing, c.Refused)
	}
}

func TestTransportClosesItsConnectionsWhenItGoes(t *testing.T) {
	s := newSite(t, setup{})
	var open atomic.Int64
	server := httptest.NewUnstartedServer(s.acceptor.Protect(http.HandlerFunc(kdctest.WhoHandler)))
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
		func() { s.run(s.upstream.Addr(), "spn "+service) },
		func() { _ = caddy.Stop() },
	} {
		s.run(server.Listener.Addr().String(), "spn "+service)
		client := s.client()
		if errs := traffic(50, 8, func(int) error {
			_, err := ask(client, s.request(http.MethodGet, "/"))
			return err
		}); len(errs) > 0 {
			t.Fatal(errs[0])
		}
		if open.Load() == 0 {
			t.Fatal("no connection was kept")
		}
		end()
		within(t, func() bool { return open.Load() == 0 })
	}
}
