package delegation

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

func userName(i int) string { return fmt.Sprintf("user%05d", i) }

// serve makes a request's worth of work for one user.
func (a *identityEnv) serve(name string) error {
	g, err := a.ask(name, webSPN)
	if err != nil {
		return err
	}
	if got := g.Ticket.Client(); got != name+"@"+corpRealm {
		return fmt.Errorf("%s is %s", name, got)
	}
	_, err = g.Mint(a.T.Context(), negotiate.Features{Mutual: true})
	return err
}

func (a *identityEnv) serveAll(from, to int) {
	a.T.Helper()
	caddytest.All(a.T, to-from, 8, func(i int) error { return a.serve(userName(from + i)) })
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Each user takes one ticket to us and one to the service, kept as long as
// ticket_memory allows: the KDC is asked for two tickets a user, then for none, and
// again only for those who had to go.
func TestTenThousandUsers(t *testing.T) {
	manyUsers, memory := 10_000, int64(40<<20)
	if raceEnabled { // which makes all of it slower, and takes memory of its own
		manyUsers, memory = manyUsers/8, memory/8
	}
	a := newIdentityEnv(t, memory)
	for i := range manyUsers {
		a.Realm.AddService(userName(i))
	}
	if err := a.Realm.Err(); err != nil {
		t.Fatal(err)
	}
	a.serveAll(0, 100)
	wantExchanges(t, a.KDC, 1, 100, 100)
	few := a.lookup(userName(0))
	before := heap()

	a.serveAll(100, manyUsers)
	wantExchanges(t, a.KDC, 1, manyUsers, manyUsers)
	stats, grown := a.Tickets.Stats(), heap()-before
	t.Logf("%d users: %d tickets held, %d KiB by the cache's count, the heap has grown by %d KiB",
		manyUsers, stats.Values, stats.Bytes>>10, grown>>10)
	if stats.Bytes > memory || stats.Values >= 2*manyUsers || stats.Values < manyUsers/4 {
		t.Errorf("%+v", stats)
	}
	// What the KDC remembers, to tell retransmissions, is on this heap too.
	if limit := memory + memory/2; !raceEnabled && grown > limit {
		t.Errorf("the heap has grown by %d MiB, with %d MiB of tickets", grown>>20, memory>>20)
	}

	// Those who came last are held; the KDC hears nothing of them.
	a.serveAll(manyUsers-manyUsers/10, manyUsers)
	again := a.KDC.Counts()
	if n := again.S4U2Proxy - manyUsers; n > manyUsers/100 {
		t.Errorf("%d of the last tenth had to be asked for again", n)
	}
	// Whoever has gone costs two tickets at most, or one where the evidence is there yet.
	a.serveAll(0, manyUsers/10)
	n := a.KDC.Counts()
	if self, onward := n.S4U2Self-again.S4U2Self, n.S4U2Proxy-again.S4U2Proxy; onward > manyUsers/10 || self > onward {
		t.Errorf("%d users' tickets to us and %d to the service for %d users", self, onward, manyUsers/10)
	}
	if n.ASRep != 1 {
		t.Errorf("%d logins", n.ASRep)
	}
	if many := a.lookup(userName(0)); many > 4*few+time.Microsecond {
		t.Errorf("a lookup takes %v among %d tickets, %v among 200", many, stats.Values, few)
	} else {
		t.Logf("a lookup takes %v among 200 tickets, %v among %d", few, many, stats.Values)
	}
}

// lookup measures the lookup of a held ticket, the best of some tries.
func (a *identityEnv) lookup(name string) time.Duration {
	a.T.Helper()
	if err := a.serve(name); err != nil {
		a.T.Fatal(err)
	}
	target := a.target(name, webSPN)
	best := time.Duration(1 << 62)
	const times = 1000 // short, so that some of them go without an interruption
	for range 100 {
		begin := time.Now()
		for range times {
			if _, ok := a.initiator.Held(target); !ok {
				a.T.Fatalf("%s is not held", name)
			}
		}
		best = min(best, time.Since(begin)/times)
	}
	return best
}
