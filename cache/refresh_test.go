package cache

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// usedUntilRefreshed uses key 1 once every step until a refresh is tried, and
// says how long that took.
func usedUntilRefreshed(t *testing.T, c *Cache[*ticket], k *kdc, step time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	for n := k.calls.Load(); k.calls.Load() == n; {
		time.Sleep(step)
		must(t, c, key(1), k.policy(), Cached)
		synctest.Wait()
		if time.Since(began) > life {
			t.Fatal("never refreshed")
		}
	}
	return time.Since(began)
}

func TestRefresh_Between70And85Percent(t *testing.T) {
	for _, tc := range []struct {
		draw float64
		want time.Duration
	}{{0, 7 * time.Hour}, {0.5, 7*time.Hour + 45*time.Minute}, {0.999999, 8*time.Hour + 30*time.Minute}} {
		bubble(t, Config{Rand: func() float64 { return tc.draw }}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
			must(t, c, key(1), k.policy(), Fetched)
			if got := usedUntilRefreshed(t, c, k, time.Minute); got < tc.want || got > tc.want+time.Minute {
				t.Errorf("draw %v: refreshed after %v, want %v", tc.draw, got, tc.want)
			}
			if v := must(t, c, key(1), k.policy(), Cached); v.n != 2 {
				t.Errorf("served ticket %d after the refresh, want 2", v.n)
			}
		})
	}
}

func TestRefresh_OldValueMeanwhile(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		old := must(t, c, key(1), k.policy(), Fetched)
		k.delay = 5 * time.Second
		time.Sleep(life * 86 / 100)
		if _, ok := c.Get(key(1)); ok {
			t.Fatal("Get did not say that something is due")
		}
		began := time.Now()
		for range 100 {
			if v := must(t, c, key(1), k.policy(), Cached); v != old {
				t.Fatal("another value before the refresh ended")
			}
			if v, ok := c.Get(key(1)); !ok || v != old {
				t.Fatal("Get does not serve the old one during the refresh")
			}
		}
		if time.Since(began) != 0 {
			t.Fatalf("waited %v", time.Since(began))
		}
		time.Sleep(6 * time.Second)
		if v, ok := c.Get(key(1)); !ok || v == old || k.calls.Load() != 2 {
			t.Fatalf("after the refresh: %v, %v, %d fetches", v, ok, k.calls.Load())
		}
	})
}

// The KDC is down from the refresh point on: no caller waits or fails until the
// end, and the KDC is asked a few dozen times, not at each of 9 000 uses.
func TestRefresh_Fails(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		old := must(t, c, key(1), k.policy(), Fetched)
		time.Sleep(life * 70 / 100)
		k.fail(errors.New("no KDC answers"))
		uses := 0
		for time.Now().Before(old.end.Add(-margin - time.Second)) {
			if v := must(t, c, key(1), k.policy(), Cached); v != old {
				t.Fatal("another value")
			}
			uses++
			time.Sleep(time.Second)
		}
		if n := k.calls.Load() - 1; n < 10 || n > 120 {
			t.Fatalf("%d attempts at %d uses", n, uses)
		}
		k.fail(nil)
		time.Sleep(time.Minute)
		must(t, c, key(1), k.policy(), Fetched)
	})
}

func TestRefresh_KDCBack(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		must(t, c, key(1), k.policy(), Fetched)
		time.Sleep(life * 86 / 100)
		k.fail(errors.New("no KDC answers"))
		usedUntilRefreshed(t, c, k, time.Second)
		k.fail(nil)
		if got := usedUntilRefreshed(t, c, k, 100*time.Millisecond); got < 4*time.Second || got > 7*time.Second {
			t.Fatalf("tried again after %v, want about 5 s", got)
		}
	})
}

func TestRefresh_Bounded(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		c.refreshSlots = make(chan struct{}, 3)
		const n = 50
		for i := range n {
			must(t, c, key(i), k.policy(), Fetched)
		}
		time.Sleep(life * 86 / 100)
		k.delay = 500 * time.Millisecond
		for i := range n {
			must(t, c, key(i), k.policy(), Cached)
		}
		synctest.Wait()
		if got := k.calls.Load() - n; got != 3 {
			t.Fatalf("%d refreshes at a time, want 3", got)
		}
		for range 60 { // the uses continue
			time.Sleep(time.Second)
			for i := range n {
				must(t, c, key(i), k.policy(), Cached)
			}
		}
		if got := k.calls.Load() - n; got != n {
			t.Fatalf("%d refreshed in the end, want %d", got, n)
		}
	})
}

func TestRefresh_NotUnused(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		must(t, c, key(1), k.policy(), Fetched)
		time.Sleep(2 * life)
		if n := k.calls.Load(); n != 1 {
			t.Fatalf("%d fetches without a use", n)
		}
	})
}

func TestSettled(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		if _, ok := c.Settled(t.Context(), key(1)); ok {
			t.Fatal("a value that was never fetched")
		}
		old := must(t, c, key(1), k.policy(), Fetched)
		if v, ok := c.Settled(t.Context(), key(1)); !ok || v != old || k.calls.Load() != 1 {
			t.Fatal("without a refresh under way it is what is held")
		}
		k.delay = 5 * time.Second
		time.Sleep(life * 86 / 100)
		must(t, c, key(1), k.policy(), Cached) // starts the refresh
		began := time.Now()
		if v, ok := c.Settled(t.Context(), key(1)); !ok || v == old || time.Since(began) != k.delay {
			t.Fatalf("%v after %v", v, time.Since(began))
		}
	})
}

func TestRenew(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		old := must(t, c, key(1), k.policy(), Fetched)
		k.delay = 5 * time.Second
		began := time.Now()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if v, err := c.Renew(t.Context(), key(1), old, k.policy()); err != nil || v == old || time.Since(began) != k.delay {
					t.Errorf("%v, %v after %v", v, err, time.Since(began))
				}
			})
		}
		synctest.Wait()
		if v, ok := c.Get(key(1)); !ok || v != old {
			t.Error("others are not served the old one meanwhile")
		}
		all.Wait()
		if v, err := c.Renew(t.Context(), key(1), old, k.policy()); err != nil || v == old || k.calls.Load() != 2 {
			t.Errorf("%v, %v after %d fetches: its place was taken already", v, err, k.calls.Load())
		}
	})
}

func TestRenew_Fails(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		old := must(t, c, key(1), k.policy(), Fetched)
		down := errors.New("down")
		k.down.Store(&down)
		if v, err := c.Renew(t.Context(), key(1), old, k.policy()); !errors.Is(err, down) {
			t.Errorf("%v, %v", v, err)
		}
		if v, ok := c.Get(key(1)); !ok || v != old {
			t.Error("what was held is lost")
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Renew(ended, key(1), old, k.policy()); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
	})
}

func TestRenew_Dropped(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		old := must(t, c, key(1), k.policy(), Fetched)
		k.delay = 5 * time.Second
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if v, err := c.Renew(t.Context(), key(1), old, k.policy()); err != nil || v == old {
				t.Errorf("who waited got %v, %v", v, err)
			}
		})
		synctest.Wait()
		c.Drop(func(Key) bool { return true })
		waiting.Wait()
		if _, ok := c.Get(key(1)); ok {
			t.Error("what was begun before the drop is kept")
		}
	})
}

func TestRefreshing(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		var within *ticket
		var refreshing bool
		p := Policy[*ticket]{Fetch: func(ctx context.Context) (*ticket, error) {
			within, refreshing = c.Refreshing(ctx)
			return fresh(int(k.calls.Add(1))), nil
		}}
		old := must(t, c, key(1), p, Fetched)
		if refreshing {
			t.Error("a first fetch takes the place of nothing")
		}
		if _, _, err := c.Successor(t.Context(), key(1), old, p); err != nil || refreshing {
			t.Errorf("a refused one is not near its end: %v", err)
		}
		old, _ = c.Get(key(1))
		time.Sleep(life * 86 / 100)
		must(t, c, key(1), p, Cached)
		synctest.Wait()
		if !refreshing || within != old {
			t.Errorf("a refresh: %v, %t", within, refreshing)
		}
		if _, ok := c.Refreshing(t.Context()); ok {
			t.Error("known outside of a fetch")
		}
	})
}
