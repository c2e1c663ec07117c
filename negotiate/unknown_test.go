package negotiate_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
)

// What is asked of the KDC for invented names: so many at once, and each over UDP and, to confirm
// it, over TCP; more often on a busy machine.
const (
	inventedBurst = 50
	perInvented   = 4
)

// ask asks for a service that a client chose.
func (w *world) ask(ctx context.Context, spn string) error {
	w.T.Helper()
	target := identitytest.Target(w.T, spn)
	target.ByClient = true
	_, err := w.initiator.Grant(ctx, target, negotiate.DelegateNever)
	return err
}

func throttled(err error) bool {
	_, ok := errors.AsType[*negotiate.ThrottledError](err)
	return ok
}

func TestUnknownService_Flood(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	w.Realm.AddService("HTTP/other.corp.example")
	if err := w.ask(t.Context(), identitytest.Service); err != nil {
		t.Fatal(err)
	}
	w.KDC.ResetCounts()
	var (
		wg    sync.WaitGroup
		names = make(chan int)
		mu    sync.Mutex
		after time.Duration // the longest Retry-After
	)
	for range 100 {
		wg.Go(func() {
			for n := range names {
				err := w.ask(t.Context(), fmt.Sprintf("HTTP/invented-%d.corp.example", n))
				mu.Lock()
				if throttled(err) {
					after = max(after, negotiate.RetryAfter(err, w.Clock.Now()))
				} else if err == nil {
					t.Error("a ticket for an invented service")
				}
				mu.Unlock()
			}
		})
	}
	for n := range 10_000 {
		names <- n
	}
	close(names)
	wg.Wait()
	// What is under way when the bound is reached is answered.
	if n, most := w.KDC.Counts().TGSReq, (inventedBurst+cache.MaxFetches)*perInvented; n == 0 || n > most {
		t.Errorf("%d TGS-REQ for 10 000 invented names, want %d at most", n, most)
	}
	if after < time.Second || after > 10*time.Second {
		t.Errorf("to be tried again after %v", after)
	}

	// One that the KDC knew, and one that clients cannot choose, is asked for at once.
	w.id.FlushTickets(func(k cache.Key) bool { return k.SPN == identitytest.Service })
	if err := w.ask(t.Context(), identitytest.Service); err != nil {
		t.Errorf("known service: %v", err)
	}
	if _, err := w.initiator.Grant(t.Context(), identitytest.Target(t, "HTTP/other.corp.example"), negotiate.DelegateNever); err != nil {
		t.Errorf("configured service: %v", err)
	}
}

func TestUnknownService_TenASecond(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	n := 0
	// asked invents names one after the other, and returns how many the KDC was asked for.
	asked := func(names int) (count int) {
		t.Helper()
		for range names {
			n++
			if err := w.ask(t.Context(), fmt.Sprintf("HTTP/invented-%d.corp.example", n)); !throttled(err) {
				count++
			}
		}
		return count
	}
	if got := asked(80); got != inventedBurst {
		t.Errorf("%d at once, want %d", got, inventedBurst)
	}
	w.KDC.ResetCounts()
	w.Realm.AddService("HTTP/new.corp.example")
	if err := w.ask(t.Context(), "HTTP/new.corp.example"); !throttled(err) || w.KDC.Counts().TGSReq != 0 {
		t.Errorf("%v, with %d TGS-REQ", err, w.KDC.Counts().TGSReq)
	}
	w.Clock.Advance(2 * time.Second)
	if err := w.ask(t.Context(), "HTTP/new.corp.example"); err != nil {
		t.Errorf("an existing service after two seconds: %v", err)
	}
	if got := asked(80); got != 20 {
		t.Errorf("%d after two seconds, want 20", got)
	}
	w.Clock.Advance(time.Minute)
	if got := asked(80); got != inventedBurst {
		t.Errorf("%d after a minute, want %d", got, inventedBurst)
	}
}
