package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unique"

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
		SPN:   fmt.Sprintf("HTTP/host-%06d.corp.example", n),
		Terms: unique.Make(Terms{ETypes: [MaxETypes]int32{18, 17}}), Options: 0x40010000,
	}
}

// put installs a value without a fetch.
func put(c *Cache[*ticket], key Key, v *ticket) {
	l := c.lock()
	defer l.unlock()
	l.install(key, v, l.now())
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
		time.Sleep(time.Minute) // what runs in the background ends
	})
}

// A KDC may say that a ticket is valid for thousands of years.
func TestFetch_FarEnd(t *testing.T) {
	for _, year := range []int{2261, 2262, 2263, 2600, 9999} {
		bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
			p := Policy[*ticket]{Fetch: func(ctx context.Context) (*ticket, error) {
				v, err := k.policy().Fetch(ctx)
				v.end = time.Date(year, 12, 31, 0, 0, 0, 0, time.UTC)
				return v, err
			}}
			must(t, c, key(1), p, Fetched)
			time.Sleep(365 * 24 * time.Hour)
			if _, ok := c.Get(key(1)); !ok {
				t.Errorf("a ticket that ends in %d is not cached", year)
			}
		})
	}
}

func TestGet_AfterFetch(t *testing.T) {
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

// A ticket must never be used for another identity, user, realm, service, terms or
// options.
func TestKey_EveryFieldCounts(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		base := Key{Identity: "i", User: "alice", UserType: 1, Realm: "R", SPN: "HTTP/h", Terms: terms(func(*Terms) {}), Options: 1}
		keys, encoded := []Key{base}, map[string]bool{string(base.Append(nil)): true}
		for _, change := range []func(*Key){
			func(k *Key) { k.Identity = "j" },
			func(k *Key) { k.User = "Alice" },
			func(k *Key) { k.User = "" },
			func(k *Key) { k.Realm = "S" },
			func(k *Key) { k.SPN = "HTTP/g" },
			func(k *Key) { k.UserType = 10 },
			func(k *Key) { k.Terms = terms(func(t *Terms) { t.ETypes[1] = 0 }) },
			func(k *Key) { k.Terms = terms(func(t *Terms) { t.ETypes[0], t.ETypes[1] = 17, 18 }) },
			func(k *Key) { k.Terms = terms(func(t *Terms) { t.Armored = true }) },
			func(k *Key) { k.Terms = terms(func(t *Terms) { t.Canonicalize = true }) },
			func(k *Key) { k.Terms = terms(func(t *Terms) { t.Lifetime = time.Hour }) },
			func(k *Key) { k.Terms = unique.Handle[Terms]{} },
			func(k *Key) { k.Options = 2 },
		} {
			other := base
			change(&other)
			keys = append(keys, other)
			if b := string(other.Append(nil)); encoded[b] && other.Identity == base.Identity {
				t.Errorf("%+v has the encoding of another key", other)
			} else {
				encoded[b] = true
			}
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

func terms(change func(*Terms)) unique.Handle[Terms] {
	t := Terms{ETypes: [MaxETypes]int32{18, 17}}
	change(&t)
	return unique.Make(t)
}

func TestFetch_Shared(t *testing.T) {
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

func TestFetch_FirstCallerLeaves(t *testing.T) {
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

func TestFetch_Timeout(t *testing.T) {
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

// Both waiters get the error and its stack; it is reported once, and remembered for a
// moment only.
func TestFetch_Panics(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		var reported []*PanicError
		panics := Policy[*ticket]{
			Fetch: func(context.Context) (*ticket, error) {
				time.Sleep(time.Second)
				panic("boom")
			},
			OnPanic: func(p *PanicError) { reported = append(reported, p) },
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				_, _, err := c.Fetch(t.Context(), key(1), panics)
				p, ok := errors.AsType[*PanicError](err)
				if !ok || p.Value != "boom" || !strings.Contains(string(p.Stack), "TestFetch_Panics") {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if len(reported) != 1 || len(reported[0].Stack) == 0 {
			t.Errorf("%d panics reported, want 1 with its stack", len(reported))
		}
		time.Sleep(time.Second)
		must(t, c, key(1), k.policy(), Fetched)
	})
}

func TestFetch_GoroutineEnds(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		_, _, err := c.Fetch(t.Context(), key(1), Policy[*ticket]{
			Fetch: func(context.Context) (*ticket, error) { runtime.Goexit(); return nil, nil },
		})
		if !errors.Is(err, errNoResult) {
			t.Fatalf("got %v", err)
		}
		must(t, c, key(1), k.policy(), Fetched)
	})
}

func TestMargin(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		must(t, c, key(1), k.policy(), Fetched)
		k.fail(errors.New("down"))
		time.Sleep(life - margin - time.Second)
		must(t, c, key(1), k.policy(), Cached)
		time.Sleep(time.Second)
		if v, _, err := c.Fetch(t.Context(), key(1), k.policy()); err == nil {
			t.Fatalf("%v served within its margin", v)
		}
		if _, ok := c.Get(key(1)); ok {
			t.Fatal("Get served it within its margin")
		}
	})
}

// Of a life of five seconds the whole margin would leave nothing.
func TestMargin_ShortLife(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], _ *kdc) {
		now := time.Now()
		put(c, key(1), &ticket{start: now, end: now.Add(5 * time.Second)})
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

func TestFetch_ValueAtItsEnd(t *testing.T) {
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

func TestFetch_Bounded(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], _ *kdc) {
		c.fetchSlots = make(chan struct{}, 4)
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

// A fetch that all callers have left before its turn makes no request.
func TestFetch_AbandonedInQueue(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		c.fetchSlots = make(chan struct{}, 1)
		k.delay = time.Second
		go must(t, c, key(0), k.policy(), Fetched)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 50 {
			go c.Fetch(ctx, key(1+i), k.policy())
		}
		synctest.Wait()
		if f := c.Stats().Fetches; f != 51 {
			t.Fatalf("%d fetches, want 51", f)
		}
		cancel()
		synctest.Wait()
		if f := c.Stats().Fetches; f != 1 {
			t.Fatalf("%d fetches left, want 1", f)
		}
		time.Sleep(time.Minute)
		if n := k.calls.Load(); n != 1 {
			t.Fatalf("%d fetches, want 1", n)
		}
	})
}

// A service ticket's fetch asks for the TGT: with every slot taken by such
// fetches, the TGT's own must not wait for one, even if it is queued already.
func TestFetch_Nested(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], tgt *kdc) {
		c.fetchSlots = make(chan struct{}, 2)
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

func TestFetch_Recursive(t *testing.T) {
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

func TestAllocs_Get(t *testing.T) {
	c := New[*ticket](Config{})
	put(c, key(1), fresh(1))
	k := key(1)
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := c.Get(k); !ok {
			t.Fatal("miss")
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// pulled fetches a ticket so short-lived that refreshes happen.
func pulled(n int, fails bool) func(context.Context) (*ticket, error) {
	return func(context.Context) (*ticket, error) {
		if fails {
			return nil, denied{}
		}
		now := time.Now()
		return &ticket{n: n, start: now, end: now.Add(2 * time.Millisecond), bytes: make([]byte, 1000)}, nil
	}
}
