package cache

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

func sized(n int) *ticket {
	return &ticket{start: time.Now(), end: time.Now().Add(life), bytes: make([]byte, n)}
}

// Ten thousand services out of clients' Host headers, and ten that are in use
// all the while.
func TestMemory_UsedEntriesStay(t *testing.T) {
	const memory = 2 << 20
	bubble(t, Config{Memory: memory}, func(t *testing.T, c *Cache[*ticket], _ *kdc) {
		for i := range 10 {
			put(c, key(i), sized(1500))
		}
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 10_000 {
			put(c, key(1000+random.IntN(1_000_000)), sized(1000+random.IntN(1000)))
			if s := c.Stats(); s.Bytes > memory {
				t.Fatalf("%d bytes after %d", s.Bytes, i)
			}
			for j := range 10 {
				if _, ok := c.Get(key(j)); !ok {
					t.Fatalf("the used ticket %d went after %d others", j, i)
				}
			}
		}
		if s := c.Stats(); s.Values < 500 || s.Values > 2000 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestMemory_LeastRecentlyUsed(t *testing.T) {
	bubble(t, Config{Memory: 4 << 20}, func(t *testing.T, c *Cache[*ticket], _ *kdc) {
		const n = 1000
		for i := range n {
			put(c, key(i), sized(1024))
		}
		for i := 0; i < n; i += 2 { // even ones are used
			put(c, key(n+i), sized(1024))
			c.Get(key(i))
		}
		c.SetMemory(c.Stats().Bytes * 3 / 4)
		used, unused := 0, 0
		for i := range n {
			if c.find(key(i)) == nil {
				if i%2 == 0 {
					used++
				} else {
					unused++
				}
			}
		}
		if unused < 10*used || unused < 300 {
			t.Fatalf("%d unused and %d used entries went", unused, used)
		}
	})
}

func TestMemory_ValueTooBig(t *testing.T) {
	bubble(t, Config{Memory: 1 << 16}, func(t *testing.T, c *Cache[*ticket], _ *kdc) {
		put(c, key(1), sized(1000))
		put(c, key(2), sized(1<<16))
		if _, ok := c.Get(key(1)); !ok || c.Stats().Values != 1 {
			t.Fatalf("%+v", c.Stats())
		}
	})
}

func TestRemeasure(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], _ *kdc) {
		v := sized(1000)
		put(c, key(1), v)
		before := c.Stats().Bytes
		v.bytes = make([]byte, 3000)
		c.Remeasure(key(1))
		if got := c.Stats().Bytes - before; got != int64(cap(v.bytes)-1000) {
			t.Fatalf("grew by %d", got)
		}
		c.Drop(func(Key) bool { return true })
		if s := c.Stats(); s.Bytes != 0 || s.Values != 0 {
			t.Fatalf("left: %+v", s)
		}
	})
}

func TestSweep(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *Cache[*ticket], _ *kdc) {
		for i := range 1000 {
			put(c, key(i), sized(100))
		}
		time.Sleep(life)
		for i := range 400 {
			put(c, key(2000+i), sized(100))
		}
		if n := c.Stats().Values; n > 450 {
			t.Fatalf("%d entries, 400 of them alive", n)
		}
	})
}

// Whatever happens, the table, the pools and the sums agree.
func TestBookkeeping(t *testing.T) {
	bubble(t, Config{Memory: 1 << 18}, func(t *testing.T, c *Cache[*ticket], k *kdc) {
		random := rand.New(rand.NewPCG(3, 4))
		for range 20_000 {
			n := random.IntN(600)
			switch random.IntN(12) {
			case 0:
				c.Drop(func(k Key) bool { return k == key(n) })
			case 1:
				k.fail(denied{})
			case 2:
				k.fail(nil)
			case 3:
				time.Sleep(time.Duration(random.IntN(600)) * time.Second)
			case 4:
				put(c, key(n), sized(random.IntN(1000)))
			default:
				_, _, _ = c.Fetch(t.Context(), key(n), k.policy())
			}
		}
		chained := map[*entry[*ticket]]bool{}
		for i := range c.table.segments {
			if seg := c.table.segments[i].Load(); seg != nil {
				for j := range seg {
					for e := seg[j].Load(); e != nil; e = e.next.Load() {
						chained[e] = true
					}
				}
			}
		}
		pooled := 0
		for _, p := range []*pool[*ticket]{&c.values, &c.negatives} {
			var sum int64
			for i, e := range p.entries {
				if e.pool != p || e.place != i || !chained[e] || (e.held.Load().err == nil) != (p == &c.values) {
					t.Fatalf("entry %v is in the wrong place", e.key.SPN)
				}
				sum += e.weight
			}
			if sum != p.bytes {
				t.Fatalf("sum %d, reckoned %d", sum, p.bytes)
			}
			pooled += len(p.entries)
		}
		if pooled != len(chained) || pooled == 0 {
			t.Fatalf("%d in pools, %d in the table", pooled, len(chained))
		}
	})
}

// The size counted for an entry must cover its real size.
func TestMemory_CountsRealBytes(t *testing.T) {
	const n, size = 20_000, 1300
	var before, after runtime.MemStats
	c := New[*ticket](Config{})
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		put(c, key(i), sized(size))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	bytes := float64(after.HeapAlloc-before.HeapAlloc) / n
	objects := float64(after.HeapObjects-before.HeapObjects) / n
	reckoned := float64(c.Stats().Bytes) / n
	t.Logf("an entry with a value of %d bytes: %.0f bytes and %.1f objects on the heap, reckoned %.0f", size, bytes, objects, reckoned)
	if reckoned < 0.9*bytes || reckoned > 1.3*bytes {
		t.Errorf("reckoned %.0f bytes an entry, measured %.0f", reckoned, bytes)
	}
	runtime.KeepAlive(c)
}
