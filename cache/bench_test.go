package cache

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func filled(n int) (*Cache[*ticket], []Key) {
	c := New[*ticket](Config{})
	keys := make([]Key, n)
	for i := range keys {
		keys[i] = key(i)
		put(c, keys[i], sized(1300))
	}
	return c, keys
}

// BenchmarkGet reads ten keys in turn out of so many entries: what a proxy with
// a few busy services does. BenchmarkGetAll reads all of them at random, which
// measures the machine's memory with it.
func BenchmarkGet(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c, keys := filled(n)
			busy := make([]Key, 10)
			for i := range busy {
				busy[i] = keys[i*n/10]
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := c.Get(busy[i%10]); !ok {
					b.Fatal("miss")
				}
			}
		})
	}
}

func BenchmarkGetAll(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c, keys := filled(n)
			order := rand.Perm(n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := c.Get(keys[order[i%n]]); !ok {
					b.Fatal("miss")
				}
			}
		})
	}
}

// BenchmarkGetParallel has all cores read one and the same entry.
func BenchmarkGetParallel(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c, keys := filled(n)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				k := keys[0]
				for pb.Next() {
					if _, ok := c.Get(k); !ok {
						b.Error("miss")
					}
				}
			})
		})
	}
}

func BenchmarkPut(b *testing.B) {
	c := New[*ticket](Config{Memory: 16 << 20})
	keys := make([]Key, 50_000)
	for i := range keys {
		keys[i] = key(i)
	}
	v := sized(1300)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		put(c, keys[i%len(keys)], v)
	}
}

// Everything at once on few keys and little memory, for the race detector; and
// no caller may ever see another key's value.
func TestStress(t *testing.T) {
	c := New[*ticket](Config{Memory: 64 << 10})
	c.fetchSlots, c.refreshSlots = make(chan struct{}, 4), make(chan struct{}, 2)
	var wg sync.WaitGroup
	var wrong atomic.Int64
	for g := range 8 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 7))
			for i := range 3000 {
				n := random.IntN(60)
				p := Policy[*ticket]{Fetch: pulled(n, random.IntN(10) == 0)}
				check := func(v *ticket) {
					if v != nil && v.n != n {
						wrong.Add(1)
					}
				}
				switch random.IntN(20) {
				case 0:
					c.Drop(func(k Key) bool { return k == key(n) })
				case 1:
					if v, ok := c.Get(key(n)); ok {
						w, _, _ := c.Successor(t.Context(), key(n), v, p)
						check(w)
						c.Confirm(key(n), v)
					}
				case 2:
					c.Snapshot(nil)
					c.Stats()
				case 3:
					c.Remeasure(key(n))
				case 4, 5, 6, 7, 8, 9:
					v, _ := c.Get(key(n))
					check(v)
				default:
					v, _, _ := c.Fetch(t.Context(), key(n), p)
					check(v)
				}
				if i == 1500 && g == 0 {
					c.SetStore(newShelf())
				}
			}
		})
	}
	wg.Wait()
	for c.Stats().Fetches > 0 {
		runtime.Gosched()
	}
	c.Drop(func(Key) bool { return true })
	if s := c.Stats(); wrong.Load() != 0 || s.Bytes != 0 || s.Fetches != 0 {
		t.Fatalf("%d wrong values, %+v", wrong.Load(), s)
	}
}
