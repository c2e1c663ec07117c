package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// denied is an error to be remembered: 30 s, then double, at most 4 min.
type denied struct{}

func (denied) Error() string { return "service principal unknown" }
func (denied) RememberFor(n int) time.Duration {
	return min(30*time.Second<<min(n-1, 10), 4*time.Minute)
}

func TestRemember_GrowingPauses(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		k.fail(fmt.Errorf("asking: %w", denied{}))
		for i, seconds := range []int{30, 60, 120, 240, 240} {
			want := time.Duration(seconds) * time.Second
			_, src, err := c.Fetch(t.Context(), key(1), k.policy())
			if src != Fetched || !errors.As(err, new(denied)) {
				t.Fatalf("attempt %d: %q, %v", i, src, err)
			}
			time.Sleep(want - time.Millisecond)
			if _, src, err = c.Fetch(t.Context(), key(1), k.policy()); src != Cached || !errors.As(err, new(denied)) {
				t.Fatalf("failure %d not served for %v: %q, %v", i, want, src, err)
			}
			time.Sleep(time.Millisecond)
		}
		if n := k.calls.Load(); n != 5 {
			t.Fatalf("%d fetches, want 5", n)
		}
		k.fail(nil)
		must(t, c, key(1), k.policy(), Fetched)
		if s := c.Stats(); s.Negatives != 0 || s.Values != 1 {
			t.Fatalf("after success: %+v", s)
		}
	})
}

func TestRemember_SuccessResets(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		k.fail(denied{})
		for range 3 {
			_, _, _ = c.Fetch(t.Context(), key(1), k.policy())
			time.Sleep(4 * time.Minute)
		}
		k.fail(nil)
		must(t, c, key(1), k.policy(), Fetched)
		time.Sleep(life)
		k.fail(denied{})
		_, _, _ = c.Fetch(t.Context(), key(1), k.policy())
		time.Sleep(30 * time.Second)
		k.fail(nil)
		must(t, c, key(1), k.policy(), Fetched)
	})
}

func TestRemember_OtherErrors(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		k.fail(errors.New("once"))
		for range 2 {
			if _, src, err := c.Fetch(t.Context(), key(1), k.policy()); src != Fetched || err == nil {
				t.Fatalf("%q, %v", src, err)
			}
		}
		if s := c.Stats(); k.calls.Load() != 2 || s.Negatives != 0 {
			t.Fatalf("%d fetches, %+v", k.calls.Load(), s)
		}
	})
}

// Any client can invent host names: what is remembered of them is bounded, and
// good tickets are not displaced by it.
func TestRemember_Bounded(t *testing.T) {
	const memory = 1 << 20
	bubble(t, Config{Memory: memory}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		for i := range 100 {
			put(c, key(i), &ticket{start: time.Now(), end: time.Now().Add(life), bytes: make([]byte, 2048)})
		}
		k.fail(errors.Join(denied{}, errors.New(strings.Repeat("x", 100))))
		for i := range 10_000 {
			if _, _, err := c.Fetch(context.Background(), key(1000+i), k.policy()); err == nil {
				t.Fatal("no error")
			}
		}
		s := c.Stats()
		if s.Values != 100 || s.Negatives == 0 || s.Negatives > negativeCount || c.negatives.bytes > memory/negativeShare {
			t.Fatalf("%+v, negatives %d bytes", s, c.negatives.bytes)
		}
		for i := range 100 {
			if _, ok := c.Get(key(i)); !ok {
				t.Fatalf("ticket %d was displaced", i)
			}
		}
	})
}

func TestRemember_KeepsUsableValue(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		old := must(t, c, key(1), k.policy(), Fetched)
		k.fail(denied{})
		if _, _, err := c.Successor(t.Context(), key(1), old, k.policy()); !errors.As(err, new(denied)) {
			t.Fatalf("got %v", err)
		}
		if v, ok := c.Get(key(1)); !ok || v != old {
			t.Fatalf("Get = %v, %v", v, ok)
		}
	})
}
