package accept

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

const skew = 5 * time.Minute

var epoch = time.Date(2027, 3, 4, 5, 6, 7, 0, time.UTC)

func numbered(n int) (hash [replayHash]byte) {
	binary.BigEndian.PutUint64(hash[:], uint64(n)*0x9e3779b97f4a7c15)
	return hash
}

func testKey(tb testing.TB, fill byte) *Key {
	tb.Helper()
	raw := make([]byte, 32)
	raw[0] = fill
	return must.OK(NewKey(must.OK(enctype.NewKey(enctype.AES256_CTS_HMAC_SHA1_96, raw))(tb), 1))(tb)
}

// The cache is the key's: another Key of the same bytes, as a reload makes it, has the same.
func TestReplays_BelongToTheKey(t *testing.T) {
	r := NewReplays(ReplayMemory, time.Time{})
	key, again, other := testKey(t, 1), testKey(t, 1), testKey(t, 2)
	if r.of(key, epoch, skew) != r.of(again, epoch, skew) {
		t.Error("two caches of one key")
	}
	if r.of(key, epoch, skew) == r.of(other, epoch, skew) {
		t.Error("one cache of two keys")
	}
}

func TestReplays_UntilTooOld(t *testing.T) {
	c := NewReplays(ReplayMemory, time.Time{}).of(testKey(t, 1), epoch, skew)
	for i, ahead := range []time.Duration{-skew, 0, skew} { // of the client's clock
		made := epoch.Add(ahead)
		if reason := c.add(numbered(i), made, epoch, skew); reason != 0 {
			t.Fatalf("%s: %s", ahead, reason)
		}
		for at := epoch; !at.After(made.Add(skew)); at = at.Add(time.Second) {
			if reason := c.add(numbered(i), made, at, skew); reason != Replay {
				t.Fatalf("%s, after %s: %v", ahead, at.Sub(epoch), reason)
			}
		}
	}
	c.add(numbered(9), epoch.Add(time.Hour), epoch.Add(time.Hour), skew)
	if c.entries != 1 || len(c.minutes) != 1 {
		t.Errorf("%d entries in %d minutes an hour later", c.entries, len(c.minutes))
	}
}

// What was forgotten is refused, if the clock is set back to when it was good.
func TestReplays_ClockSetBack(t *testing.T) {
	c := NewReplays(ReplayMemory, time.Time{}).of(testKey(t, 1), epoch, skew)
	c.add(numbered(1), epoch, epoch, skew)
	later := epoch.Add(time.Hour)
	c.add(numbered(2), later, later, skew)
	if reason := c.add(numbered(1), epoch, epoch, skew); reason != BeforeStart {
		t.Errorf("%v", reason)
	}
	if reason := c.add(numbered(3), epoch.Add(2*time.Minute), epoch.Add(2*time.Minute), skew); reason != 0 {
		t.Errorf("a new one: %s", reason)
	}
}

func TestReplays_BeforeStart(t *testing.T) {
	c := NewReplays(ReplayMemory, epoch).of(testKey(t, 1), epoch, skew)
	if reason := c.add(numbered(1), epoch.Add(-time.Microsecond), epoch.Add(time.Second), skew); reason != BeforeStart {
		t.Errorf("%v", reason)
	}
	if reason := c.add(numbered(2), epoch, epoch.Add(time.Second), skew); reason != 0 {
		t.Errorf("at the start: %s", reason)
	}
	if process.start.After(time.Now()) || process.start.IsZero() || process.memory != ReplayMemory {
		t.Errorf("the process's own: %d bytes since %s", process.memory, process.start)
	}
}

// A clock that was ahead at the start and is set back: the start is as long ago as before.
func TestReplays_StartOfWrongClock(t *testing.T) {
	r := NewReplays(ReplayMemory, epoch.Add(time.Hour))
	r.age = func() time.Duration { return time.Minute }
	c := r.of(testKey(t, 1), epoch, skew)
	if reason := c.add(numbered(1), epoch.Add(-time.Minute), epoch, skew); reason != 0 {
		t.Errorf("after the start: %s", reason)
	}
	if reason := c.add(numbered(2), epoch.Add(-time.Minute-time.Microsecond), epoch, skew); reason != BeforeStart {
		t.Errorf("before the start: %v", reason)
	}
	if age := newProcessReplays(time.Now().Add(-time.Hour)).age(); age < time.Hour || process.age == nil {
		t.Errorf("the process started %s ago", age)
	}
}

// A full cache evicts nothing. It has space again when entries are too old.
func TestReplays_Full(t *testing.T) {
	const most = 100
	c := NewReplays(most*replayEntry, time.Time{}).of(testKey(t, 1), epoch, skew)
	for i := range most {
		if reason := c.add(numbered(i), epoch, epoch, skew); reason != 0 {
			t.Fatalf("%d: %s", i, reason)
		}
	}
	if reason := c.add(numbered(most), epoch, epoch, skew); reason != ReplaysFull {
		t.Errorf("%v", reason)
	}
	for i := range most {
		if reason := c.add(numbered(i), epoch, epoch, skew); reason != Replay {
			t.Fatalf("%d was evicted: %v", i, reason)
		}
	}
	later := epoch.Add(2 * skew)
	if reason := c.add(numbered(most), later, later, skew); reason != 0 {
		t.Errorf("later: %s", reason)
	}
}

// A full cache takes no more memory than its bound, whatever its size and the minutes it is spread over.
func TestReplays_Memory(t *testing.T) {
	for _, memory := range []int{1 << 20, 3 << 19, 5 << 20} {
		before := heap()
		r := NewReplays(memory, time.Time{})
		c := r.of(testKey(t, 1), epoch, skew)
		n := 0
		for ; c.add(numbered(n), epoch.Add(time.Duration(n%5)*time.Minute), epoch, skew) == 0; n++ {
		}
		took := int(heap()) - int(before)
		runtime.KeepAlive(r)
		t.Logf("%d entries of %d bytes", n, took/n)
		if took > memory || n < memory/replayEntry {
			t.Errorf("%d entries take %d bytes, of %d", n, took, memory)
		}
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The key is replaced again and again: what its tokens took is given back.
func TestReplays_ReplacedKeys(t *testing.T) {
	r := NewReplays(ReplayMemory, time.Time{})
	now := epoch
	for i := range 5 {
		r.of(testKey(t, byte(i)), now, skew).add(numbered(i), now, now, skew)
		now = now.Add(24 * time.Hour)
	}
	entries := 0
	for _, c := range r.caches {
		entries += c.entries
	}
	if len(r.caches) != 5 || entries != 1 {
		t.Errorf("%d entries in %d caches", entries, len(r.caches))
	}
	// Nothing of it is good again.
	if reason := r.of(testKey(t, 0), epoch, skew).add(numbered(0), epoch, epoch, skew); reason != BeforeStart {
		t.Errorf("%v", reason)
	}
}

// Equal authenticators at once: exactly one is in.
func TestReplays_Concurrency(t *testing.T) {
	r := NewReplays(ReplayMemory, time.Time{})
	key := testKey(t, 1)
	for round := range 100 {
		var in atomic.Int32
		var all sync.WaitGroup
		begin := make(chan struct{})
		for range 16 {
			all.Go(func() {
				<-begin
				if r.of(key, epoch, skew).add(numbered(round), epoch, epoch, skew) == 0 {
					in.Add(1)
				}
			})
		}
		close(begin)
		all.Wait()
		if n := in.Load(); n != 1 {
			t.Fatalf("%d are in", n)
		}
	}
}
