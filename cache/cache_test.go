package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ticket is a value as the tests hold it.
type ticket struct {
	n          int
	start, end time.Time
	bytes      []byte
}

func (t *ticket) Size() int64      { return int64(cap(t.bytes)) + 128 }
func (t *ticket) Start() time.Time { return t.start }
func (t *ticket) End() time.Time   { return t.end }

const life = 10 * time.Hour

func fresh(n int) *ticket {
	now := time.Now()
	return &ticket{n: n, start: now, end: now.Add(life)}
}

// kdc is a source of tickets that counts.
type kdc struct {
	calls atomic.Int64
	down  atomic.Pointer[error]
	delay time.Duration
}

func (k *kdc) fail(err error) { k.down.Store(&err) }

func (k *kdc) policy() Policy[*ticket] {
	return Policy[*ticket]{Fetch: func(ctx context.Context) (*ticket, error) {
		n := k.calls.Add(1)
		if k.delay > 0 {
			select {
			case <-time.After(k.delay):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if err := k.down.Load(); err != nil && *err != nil {
			return nil, *err
		}
		return fresh(int(n)), nil
	}}
}

func key(n int) Key {
	return Key{
		Identity: "svc-proxy@CORP.EXAMPLE", Realm: "CORP.EXAMPLE",
		SPN:    fmt.Sprintf("HTTP/host-%06d.corp.example", n),
		ETypes: "aes256-cts-hmac-sha1-96,aes128-cts-hmac-sha1-96", Options: 0x40010000,
	}
}

func must(t *testing.T, c *Cache[*ticket], k Key, p Policy[*ticket], want Source) *ticket {
	t.Helper()
	v, src, err := c.Fetch(t.Context(), k, p)
	if err != nil || src != want {
		t.Errorf("Fetch = %v, %q, %v; want source %q", v, src, err, want)
		return new(ticket) // it may be another goroutine than the test's
	}
	return v
}

func bubble(t *testing.T, cfg Config, f func(*testing.T, *Cache[*ticket], *kdc)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := New[*ticket](cfg)
		f(t, c, new(kdc))
		c.Close()
	})
}

func TestGetReturnsWhatFetchBrought(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		if _, ok := c.Get(key(1)); ok {
			t.Fatal("Get of an empty cache succeeded")
		}
		v := must(t, c, key(1), k.policy(), Fetched)
		if got, ok := c.Get(key(1)); !ok || got != v {
			t.Fatalf("Get = %v, %v", got, ok)
		}
		must(t, c, key(1), k.policy(), Cached)
		if n := k.calls.Load(); n != 1 {
			t.Fatalf("%d fetches, want 1", n)
		}
	})
}

// A ticket must never be served for another identity, user, realm, service,
// list of types or set of options.
func TestEveryFieldOfTheKeyCounts(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		base := Key{Identity: "i", User: "alice", Realm: "R", SPN: "HTTP/h", ETypes: "e", Options: 1}
		keys := []Key{base}
		for _, change := range []func(*Key){
			func(k *Key) { k.Identity = "j" },
			func(k *Key) { k.User = "Alice" },
			func(k *Key) { k.User = "" },
			func(k *Key) { k.Realm = "S" },
			func(k *Key) { k.SPN = "HTTP/g" },
			func(k *Key) { k.ETypes = "f" },
			func(k *Key) { k.Options = 2 },
		} {
			other := base
			change(&other)
			keys = append(keys, other)
		}
		seen := map[*ticket]bool{}
		for _, k2 := range keys {
			seen[must(t, c, k2, k.policy(), Fetched)] = true
		}
		if len(seen) != len(keys) {
			t.Fatalf("%d keys shared %d tickets", len(keys), len(seen))
		}
	})
}

func TestOneFetchForAThousandCallers(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		k.delay = time.Second
		var wg sync.WaitGroup
		var failed atomic.Int64
		for range 1000 {
			wg.Go(func() {
				if v, _, err := c.Fetch(t.Context(), key(1), k.policy()); err != nil || v.n != 1 {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		if n := k.calls.Load(); n != 1 || failed.Load() != 0 {
			t.Fatalf("%d fetches, %d failed; want 1, 0", n, failed.Load())
		}
	})
}

func TestFirstCallerLeavingDoesNotEndTheFetch(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		k.delay = time.Second
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, _, err := c.Fetch(ctx, key(1), k.policy())
			left <- err
		}()
		synctest.Wait()
		stayed := make(chan error, 1)
		go func() {
			_, _, err := c.Fetch(t.Context(), key(1), k.policy())
			stayed <- err
		}()
		synctest.Wait()
		began := time.Now()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) || time.Since(began) != 0 {
			t.Fatalf("who left got %v after %v", err, time.Since(began))
		}
		if err := <-stayed; err != nil || k.calls.Load() != 1 {
			t.Fatalf("who stayed got %v after %d fetches", err, k.calls.Load())
		}
	})
}

func TestFetchEndsWithItsOwnTimeout(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		k.delay = time.Hour
		p := k.policy()
		p.Timeout = 3 * time.Second
		began := time.Now()
		_, _, err := c.Fetch(t.Context(), key(1), p)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 3*time.Second {
			t.Fatalf("got %v after %v", err, time.Since(began))
		}
	})
}

func TestPanicOfAFetchBecomesAnError(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		_, _, err := c.Fetch(t.Context(), key(1), Policy[*ticket]{
			Fetch: func(context.Context) (*ticket, error) { panic("boom") },
		})
		var p *PanicError
		if !errors.As(err, &p) || p.Value != "boom" || len(p.Stack) == 0 {
			t.Fatalf("got %v", err)
		}
		_, _, err = c.Fetch(t.Context(), key(1), Policy[*ticket]{
			Fetch: func(context.Context) (*ticket, error) { runtime.Goexit(); return nil, nil },
		})
		if !errors.Is(err, errNoResult) {
			t.Fatalf("got %v", err)
		}
		must(t, c, key(1), k.policy(), Fetched)
	})
}

func TestValueIsNotServedInItsMargin(t *testing.T) {
	bubble(t, Config{Margin: time.Minute}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		must(t, c, key(1), k.policy(), Fetched)
		k.fail(errors.New("down"))
		time.Sleep(life - time.Minute - time.Second)
		must(t, c, key(1), k.policy(), Cached)
		time.Sleep(time.Second)
		if v, _, err := c.Fetch(t.Context(), key(1), k.policy()); err == nil {
			t.Fatalf("%v served in its last minute", v)
		}
		if _, ok := c.Get(key(1)); ok {
			t.Fatal("Get served it in its last minute")
		}
	})
}

// Of a life of five seconds a margin of a minute would leave nothing.
func TestMarginOfAShortLifeIsATenth(t *testing.T) {
	bubble(t, Config{Margin: time.Minute}, func(t *testing.T, c *Cache[*ticket], _ *kdc) {
		now := time.Now()
		c.Put(key(1), &ticket{start: now, end: now.Add(5 * time.Second)})
		time.Sleep(3 * time.Second)
		if _, ok := c.Get(key(1)); !ok {
			t.Fatal("not served after 3 of 5 seconds")
		}
		time.Sleep(1500 * time.Millisecond)
		if _, ok := c.Get(key(1)); ok {
			t.Fatal("served after 4.5 of 5 seconds")
		}
	})
}

func TestValueAtItsEndIsAnsweredButNotKept(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		p := Policy[*ticket]{Fetch: func(context.Context) (*ticket, error) {
			k.calls.Add(1)
			return &ticket{start: time.Now().Add(-life), end: time.Now()}, nil
		}}
		must(t, c, key(1), p, Fetched)
		must(t, c, key(1), p, Fetched)
		if s := c.Stats(); s.Values != 0 || s.Bytes != 0 {
			t.Fatalf("kept: %+v", s)
		}
	})
}

func TestCloseEndsFetchesAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New[*ticket](Config{})
		ended := false
		got := make(chan error, 1)
		go func() {
			_, _, err := c.Fetch(t.Context(), key(1), Policy[*ticket]{Fetch: func(ctx context.Context) (*ticket, error) {
				<-ctx.Done()
				time.Sleep(time.Second) // tidying up
				ended = true
				return nil, ctx.Err()
			}})
			got <- err
		}()
		synctest.Wait()
		c.Close()
		if err := <-got; err == nil || !ended {
			t.Fatalf("Close did not wait (err %v, ended %v)", err, ended)
		}
		if _, _, err := c.Fetch(t.Context(), key(1), new(kdc).policy()); !errors.Is(err, ErrClosed) {
			t.Fatalf("after Close: %v", err)
		}
	})
}

func TestFetchesTakeTurns(t *testing.T) {
	bubble(t, Config{Fetches: 4}, func(t *testing.T, c *Cache[*ticket], _ *kdc) {
		var now, most atomic.Int64
		p := Policy[*ticket]{Timeout: time.Hour, Fetch: func(context.Context) (*ticket, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Second)
			return fresh(0), nil
		}}
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() { must(t, c, key(i), p, Fetched) })
		}
		wg.Wait()
		if most.Load() != 4 {
			t.Fatalf("%d fetches at a time, want 4", most.Load())
		}
	})
}

// Who leaves the queue leaves nothing behind that would go to the KDC.
func TestAbandonedFetchInTheQueueIsNotMade(t *testing.T) {
	bubble(t, Config{Fetches: 1}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		k.delay = time.Second
		go must(t, c, key(0), k.policy(), Fetched)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 50 {
			go c.Fetch(ctx, key(1+i), k.policy()) //nolint:errcheck // it is left on purpose
		}
		synctest.Wait()
		if f := c.Stats().Flights; f != 51 {
			t.Fatalf("%d flights, want 51", f)
		}
		cancel()
		synctest.Wait()
		if f := c.Stats().Flights; f != 1 {
			t.Fatalf("%d flights left, want 1", f)
		}
		time.Sleep(time.Minute)
		if n := k.calls.Load(); n != 1 {
			t.Fatalf("%d fetches, want 1", n)
		}
	})
}

// A service ticket's fetch asks for the TGT: with every turn taken by such
// fetches, the TGT's own must not wait for one, even if it is queued already.
func TestFetchWithinAFetchNeedsNoTurn(t *testing.T) {
	bubble(t, Config{Fetches: 2}, func(t *testing.T, c *Cache[*ticket], tgt *kdc) {
		gate := make(chan struct{})
		service := Policy[*ticket]{Timeout: time.Minute, Fetch: func(ctx context.Context) (*ticket, error) {
			<-gate
			if _, _, err := c.Fetch(ctx, key(999), tgt.policy()); err != nil {
				return nil, err
			}
			return fresh(0), nil
		}}
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() { must(t, c, key(i), service, Fetched) })
		}
		synctest.Wait()
		wg.Go(func() { must(t, c, key(999), tgt.policy(), Fetched) }) // queued
		synctest.Wait()
		close(gate)
		wg.Wait()
		if n := tgt.calls.Load(); n != 1 || time.Since(began) != 0 {
			t.Fatalf("%d logins after %v, want 1 at once", n, time.Since(began))
		}
	})
}

func TestFetchThatAsksForItselfFails(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		inner := Policy[*ticket]{Fetch: func(ctx context.Context) (*ticket, error) {
			v, _, err := c.Fetch(ctx, key(1), k.policy())
			return v, err
		}}
		outer := Policy[*ticket]{Fetch: func(ctx context.Context) (*ticket, error) {
			v, _, err := c.Fetch(ctx, key(2), inner)
			return v, err
		}}
		if _, _, err := c.Fetch(t.Context(), key(1), outer); !errors.Is(err, ErrRecursive) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestGetAllocatesNothing(t *testing.T) {
	c := New[*ticket](Config{})
	defer c.Close()
	c.Put(key(1), fresh(1))
	k := key(1)
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := c.Get(k); !ok {
			t.Fatal("miss")
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// pulled is a fetch of a ticket that lives so shortly that refreshes happen.
func pulled(n int, fails bool) func(context.Context) (*ticket, error) {
	return func(context.Context) (*ticket, error) {
		if fails {
			return nil, denied{}
		}
		now := time.Now()
		return &ticket{n: n, start: now, end: now.Add(2 * time.Millisecond), bytes: make([]byte, 1000)}, nil
	}
}
