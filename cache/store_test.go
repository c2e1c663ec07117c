package cache

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// shelf is a Store in memory, with a lock that heeds its context.
type shelf struct {
	mu     sync.Mutex
	values map[Key]*ticket
	lock   chan struct{}
	slow   time.Duration
}

func newShelf() *shelf { return &shelf{values: map[Key]*ticket{}, lock: make(chan struct{}, 1)} }

func (s *shelf) wait(ctx context.Context) bool {
	if s.slow == 0 {
		return true
	}
	select {
	case <-time.After(s.slow):
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *shelf) Load(ctx context.Context, k Key) (*ticket, bool) {
	if !s.wait(ctx) {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[k]
	return v, ok
}

func (s *shelf) Lock(ctx context.Context, _ Key) func() {
	select {
	case s.lock <- struct{}{}:
		return func() { <-s.lock }
	case <-ctx.Done():
		return func() {}
	}
}

func (s *shelf) Save(ctx context.Context, k Key, v *ticket) {
	if s.wait(ctx) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.values[k] = v
	}
}

func (s *shelf) Delete(_ context.Context, k Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.values, k)
}

func TestStore_SecondProcess(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, one *Cache[*ticket], k *kdc) {
		s := newShelf()
		two := New[*ticket](Config{})
		one.SetStore(s)
		two.SetStore(s)
		v := must(t, one, key(1), k.policy(), Fetched)
		synctest.Wait()
		if got := must(t, two, key(1), k.policy(), Stored); got != v {
			t.Fatal("another value")
		}
		must(t, two, key(1), k.policy(), Cached)
		if n := k.calls.Load(); n != 1 {
			t.Fatalf("%d fetches, want 1", n)
		}
	})
}

// Both miss at the same time: the lock lets one fetch.
func TestStore_Lock(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, one *Cache[*ticket], k *kdc) {
		s := newShelf()
		k.delay = 300 * time.Millisecond
		two := New[*ticket](Config{})
		var wg sync.WaitGroup
		for _, c := range []*Cache[*ticket]{one, two} {
			c.SetStore(s)
			wg.Go(func() { _, _, _ = c.Fetch(t.Context(), key(1), k.policy()) })
		}
		wg.Wait()
		if n := k.calls.Load(); n != 1 {
			t.Fatalf("%d fetches, want 1", n)
		}
	})
}

// Refreshing must not take back from the store what is being replaced, but
// takes what another process has refreshed already.
func TestStore_RefreshNeedsNewer(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		s := newShelf()
		c.SetStore(s)
		must(t, c, key(1), k.policy(), Fetched)
		time.Sleep(life * 86 / 100)
		must(t, c, key(1), k.policy(), Cached)
		synctest.Wait()
		if n := k.calls.Load(); n != 2 {
			t.Fatalf("%d fetches, want a second", n)
		}
		time.Sleep(life * 86 / 100)
		other := fresh(99)
		s.values[key(1)] = other
		must(t, c, key(1), k.policy(), Cached)
		synctest.Wait()
		if v := must(t, c, key(1), k.policy(), Cached); v != other || k.calls.Load() != 2 {
			t.Fatalf("ticket %d after %d fetches", v.n, k.calls.Load())
		}
	})
}

func TestStore_Slow(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		s := newShelf()
		s.slow = time.Hour
		c.SetStore(s)
		began := time.Now()
		must(t, c, key(1), k.policy(), Fetched)
		if d := time.Since(began); d > 2*storeTimeout {
			t.Fatalf("cold read after %v", d)
		}
		began = time.Now() // and the save still hangs
		must(t, c, key(1), k.policy(), Cached)
		if d := time.Since(began); d != 0 {
			t.Fatalf("warm read after %v", d)
		}
	})
}

// faulty panics where it saves.
type faulty struct{ *shelf }

func (faulty) Save(context.Context, Key, *ticket) { panic("fault") }

func TestStore_SavePanics(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		c.SetStore(faulty{newShelf()})
		reported := 0
		p := k.policy()
		p.OnPanic = func(*PanicError) { reported++ }
		must(t, c, key(1), p, Fetched)
		synctest.Wait()
		if reported != 1 {
			t.Errorf("reported %d times, want once", reported)
		}
	})
}

func TestFlush_Store(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		s := newShelf()
		c.SetStore(s)
		must(t, c, key(1), k.policy(), Fetched)
		synctest.Wait()
		s.values[key(2)] = fresh(50) // of another process
		time.Sleep(time.Second)
		if n := c.Flush(key(1).Identity, func(Key) bool { return true }); n != 1 {
			t.Fatalf("flushed %d, want 1", n)
		}
		synctest.Wait()
		if _, ok := s.values[key(1)]; ok {
			t.Fatal("still stored")
		}
		must(t, c, key(2), k.policy(), Fetched) // what is older is not taken
	})
}

func TestFlush_OfOneIdentity(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		s := newShelf()
		c.SetStore(s)
		other, third := key(1), key(1)
		other.Identity, third.Identity = "other", "third"
		s.values[key(2)] = fresh(50)
		s.values[third] = fresh(51)
		must(t, c, other, k.policy(), Fetched)
		time.Sleep(time.Second)
		if n := c.Flush(key(1).Identity, func(Key) bool { return true }); n != 0 {
			t.Errorf("flushed %d of others", n)
		}
		must(t, c, other, k.policy(), Cached)
		must(t, c, third, k.policy(), Stored)
		must(t, c, key(2), k.policy(), Fetched)
	})
}

// Flushes of many identities take bounded memory; none is forgotten.
func TestFlushes_Bounded(t *testing.T) {
	var f flushes
	start := time.Unix(1, 0)
	for i := range 3 * maxFlushes {
		at := start.Add(time.Duration(i))
		f.add(key(i).SPN, at)
		if f.of(key(i).SPN).Before(at) || f.of(key(0).SPN).Before(start) {
			t.Fatal("a flush was forgotten")
		}
	}
	if n := len(f.by); n > maxFlushes {
		t.Errorf("%d flushes are kept, want at most %d", n, maxFlushes)
	}
}

func TestFlush_FetchUnderWay(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		s := newShelf()
		c.SetStore(s)
		k.delay = time.Second
		go must(t, c, key(1), k.policy(), Fetched)
		synctest.Wait()
		c.Flush(key(1).Identity, func(Key) bool { return true })
		time.Sleep(time.Minute)
		if _, ok := s.values[key(1)]; ok {
			t.Fatal("stored after the flush")
		}
	})
}

func TestDrop_AnswersWaiters(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		k.delay = time.Second
		got := make(chan error)
		go func() {
			_, _, err := c.Fetch(t.Context(), key(1), k.policy())
			got <- err
		}()
		synctest.Wait()
		if n := c.Drop(func(Key) bool { return true }); n != 0 {
			t.Fatalf("dropped %d values, want 0", n)
		}
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		if _, ok := c.Get(key(1)); ok {
			t.Fatal("kept what was dropped")
		}
	})
}

func TestSnapshot(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		v := must(t, c, key(1), k.policy(), Fetched)
		must(t, c, key(2), k.policy(), Fetched)
		for range 5 {
			c.Get(key(1))
		}
		items := c.Snapshot(func(k Key) bool { return k == key(1) })
		if len(items) != 1 || items[0].Value != v || items[0].Uses != 5 || items[0].Bytes < v.Size() {
			t.Fatalf("%+v", items)
		}
		for range 100_000 {
			c.Get(key(1))
		}
		if u := c.Snapshot(func(k Key) bool { return k == key(1) })[0].Uses; u < 80_000 || u > 120_000 {
			t.Fatalf("%d uses told of 100 005", u)
		}
		time.Sleep(life)
		if items := c.Snapshot(nil); len(items) != 0 {
			t.Fatalf("listed at their end: %+v", items)
		}
	})
}

// stalled is a fetch that ends with its context only.
func stalled(begun chan<- struct{}, ended chan<- error) Policy[*ticket] {
	return Policy[*ticket]{Fetch: func(ctx context.Context) (*ticket, error) {
		begun <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil, ctx.Err()
	}}
}

func TestDrop_FetchWithoutWaiters(t *testing.T) {
	k := key(1)
	all := func(Key) bool { return true }
	for _, dropFirst := range []bool{true, false} {
		c := New[*ticket](Config{})
		begun, ended, left := make(chan struct{}), make(chan error, 1), make(chan error, 1)
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			_, _, err := c.Fetch(ctx, k, stalled(begun, ended))
			left <- err
		}()
		<-begun
		if dropFirst {
			c.Drop(all)
			leave()
			<-left
		} else {
			leave()
			<-left
			select {
			case err := <-ended:
				t.Fatalf("the fetch ended with its caller: %v", err)
			default:
			}
			c.Drop(all)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended by %v", err)
		}
	}
}
