package integration

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// An upstream whose clock is off refuses the first token only: the next ones have its time, which is
// warned of once. When its clock is set, it again refuses one.
func TestClock_OfTheUpstream(t *testing.T) {
	var ahead atomic.Int64
	ahead.Store(int64(10 * time.Minute))
	s := newSite(t, caddytest.Options{Acceptor: kdctest.AcceptorConfig{Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }}})
	caddytest.Load(s.T, s.config("", proxying(s.Upstream.Addr(), s.negotiating("spn "+caddytest.Service))))
	sent := func(requests int) int64 {
		before := s.Upstream.Requests.Load()
		for range requests {
			s.Get("/").WantUser(t, principal)
		}
		return s.Upstream.Requests.Load() - before
	}
	if n := sent(5); n != 6 {
		t.Errorf("%d requests reached the upstream for 5, want one more", n)
	}
	s.Log.Await(t, "the upstream's clock is off", 1)
	ahead.Store(int64(20 * time.Minute))
	if n := sent(3); n != 4 {
		t.Errorf("%d requests for 3 after the clock was set, want one more", n)
	}
	if n := s.Log.Count("the upstream's clock is off"); n != 1 {
		t.Errorf("warned of %d times", n)
	}
	if c := s.KDC.Counts(); c.TGSRep != 1 {
		t.Errorf("%d tickets were fetched, want 1", c.TGSRep)
	}
}
