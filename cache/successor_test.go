package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestSuccessor(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		old := must(t, c, key(1), k.policy(), Fetched)
		k.delay = time.Second
		got := make(chan *ticket)
		go func() {
			v, _, _ := c.Successor(t.Context(), key(1), old, k.policy())
			got <- v
		}()
		synctest.Wait()
		if v, ok := c.Get(key(1)); !ok || v != old {
			t.Fatalf("meanwhile Get = %v, %v", v, ok)
		}
		if items := c.Snapshot(nil); !items[0].Suspect {
			t.Fatal("not listed as suspect")
		}
		next := <-got
		if v, ok := c.Get(key(1)); !ok || v != next || v == old {
			t.Fatalf("afterwards Get = %v, %v", v, ok)
		}
		if items := c.Snapshot(nil); items[0].Suspect {
			t.Fatal("the successor is listed as suspect")
		}
	})
}

// All who were refused with one value share its successor, those included who
// come with the old one when the new one is already there.
func TestSuccessor_Shared(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		old := must(t, c, key(1), k.policy(), Fetched)
		k.delay = time.Second
		var wg sync.WaitGroup
		var wrong atomic.Int64
		for range 200 {
			wg.Go(func() {
				if v, _, err := c.Successor(t.Context(), key(1), old, k.policy()); err != nil || v.n != 2 {
					wrong.Add(1)
				}
			})
		}
		wg.Wait()
		v, src, err := c.Successor(t.Context(), key(1), old, k.policy())
		if err != nil || src != Cached || v.n != 2 || wrong.Load() != 0 || k.calls.Load() != 2 {
			t.Fatalf("%v %q %v, %d wrong, %d fetches", v, src, err, wrong.Load(), k.calls.Load())
		}
	})
}

// 10 000 requests in a minute to a path that refuses every good ticket.
func TestSuccessor_Rationed(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		must(t, c, key(1), k.policy(), Fetched)
		fetched := 0
		for range 10_000 {
			v := must(t, c, key(1), k.policy(), Cached)
			switch _, _, err := c.Successor(t.Context(), key(1), v, k.policy()); {
			case err == nil:
				fetched++
			case !errors.Is(err, ErrRationed):
				t.Fatal(err)
			}
			time.Sleep(6 * time.Millisecond)
		}
		if n := k.calls.Load() - 1; n != int64(fetched) || n < 4 || n > 5 {
			t.Fatalf("%d new tickets in a minute (%d told), want 4 or 5", n, fetched)
		}
	})
}

func TestConfirm_RestartsCount(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		v := must(t, c, key(1), k.policy(), Fetched)
		refuse := func() error {
			next, _, err := c.Successor(t.Context(), key(1), v, k.policy())
			if err == nil {
				v = next
			}
			return err
		}
		for range 3 {
			if err := refuse(); err != nil {
				t.Fatal(err)
			}
		}
		if err := refuse(); !errors.Is(err, ErrRationed) {
			t.Fatalf("fourth in a row: %v", err)
		}
		c.Confirm(key(1), &ticket{}) // not the one held: says nothing
		if err := refuse(); !errors.Is(err, ErrRationed) {
			t.Fatalf("after the confirmation of another: %v", err)
		}
		c.Confirm(key(1), v)
		if err := refuse(); err != nil {
			t.Fatalf("after the confirmation: %v", err)
		}
	})
}

// One path refuses, another accepts: together they must not have tickets
// fetched without end.
func TestConfirm_Rationed(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		v := must(t, c, key(1), k.policy(), Fetched)
		for range 6000 {
			if next, _, err := c.Successor(t.Context(), key(1), v, k.policy()); err == nil {
				v = next
			}
			c.Confirm(key(1), v)
			time.Sleep(10 * time.Millisecond)
		}
		if n := k.calls.Load() - 1; n > 12 {
			t.Fatalf("%d new tickets in a minute, want at most 12", n)
		}
	})
}

func TestSuccessor_CallerGone(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		old := must(t, c, key(1), k.policy(), Fetched)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := c.Successor(ctx, key(1), old, k.policy()); !errors.Is(err, context.Canceled) || k.calls.Load() != 1 {
			t.Fatalf("%v after %d fetches", err, k.calls.Load())
		}
	})
}
