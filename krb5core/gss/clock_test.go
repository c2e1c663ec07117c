package gss

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// fakeTime is the time of a synctest bubble, shifted.
type fakeTime struct{ shift time.Duration }

func (f *fakeTime) now() time.Time { return time.Now().Add(f.shift) }

func (f *fakeTime) config() ClockConfig {
	return ClockConfig{Now: f.now, Rand: strings.NewReader("12345678")}
}

// seen finds stamps given twice.
type seen map[Stamp]bool

func (s seen) add(tb testing.TB, stamp Stamp) {
	tb.Helper()
	if s[stamp] {
		tb.Fatalf("stamp %+v was given twice", stamp)
	}
	if stamp.Cusec < 32768 || stamp.Cusec > 999999 {
		tb.Fatalf("cusec %d has an INTEGER of another length", stamp.Cusec)
	}
	s[stamp] = true
}

func stampOf(tb testing.TB, c *Clock) Stamp {
	tb.Helper()
	return must.OK(c.Stamp(context.Background()))(tb)
}

func TestClock_MillionTokensDiffer(t *testing.T) {
	total := 1_000_000
	if testing.Short() {
		total = 100_000
	}
	const goroutines = 16
	cred := testCredential(t, enctype.AES128_CTS_HMAC_SHA1_96, 100)
	template := newTemplate(t, cred, TemplateConfig{})
	stamps := make([][]Stamp, goroutines)
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			for i := range total / goroutines {
				header, sent, err := template.Header(t.Context(), nil)
				if err != nil {
					t.Error(err)
					return
				}
				stamps[g] = append(stamps[g], sent.Stamp())
				if i%500 != 0 {
					continue
				}
				// The token has what its Context says.
				if a := openToken(t, tokenOf(t, header), cred.Key); a.CUSec != sent.Stamp().Cusec || !a.CTime.Equal(sent.Stamp().CTime()) {
					t.Errorf("token of %s %d, context of %+v", a.CTime, a.CUSec, sent.Stamp())
				}
			}
		})
	}
	group.Wait()
	all := make(seen, total)
	for _, list := range stamps {
		for _, stamp := range list {
			all.add(t, stamp)
		}
	}
	if len(all) != total {
		t.Errorf("%d tokens, want %d", len(all), total)
	}
}

func TestClock_NearRealTime(t *testing.T) { synctest.Test(t, nearRealTime) }

func nearRealTime(t *testing.T) {
	f := new(fakeTime)
	c := newClock(t, f.config())
	start := f.now()
	all := make(seen)
	for range 3 * ticksPerSecond {
		stamp := stampOf(t, c)
		all.add(t, stamp)
		at := time.Unix(stamp.Second, int64(stamp.Cusec)*1000)
		if ahead := at.Sub(f.now()); ahead > 1100*time.Millisecond || ahead < -400*time.Millisecond {
			t.Fatalf("stamped time is %s ahead", ahead)
		}
	}
	if took := f.now().Sub(start); took < 1500*time.Millisecond || took > 2500*time.Millisecond {
		t.Errorf("three seconds' stamps took %s", took)
	}
}

func TestClock_WaitEndsWithContext(t *testing.T) { synctest.Test(t, waitEndsWithContext) }

func waitEndsWithContext(t *testing.T) {
	f := new(fakeTime)
	c := newClock(t, f.config())
	for range maxAhead + 1 {
		stampOf(t, c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Stamp(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for range reservedPerSecond {
		must.OK(c.StampAt(ctx, 0))(t)
	}
	if _, err := c.StampAt(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("reserved: %v", err)
	}
}

func TestClock_TimeStepsBack(t *testing.T) { synctest.Test(t, timeStepsBack) }

func timeStepsBack(t *testing.T) {
	for _, step := range []time.Duration{time.Millisecond, 500 * time.Millisecond, 2 * time.Second, time.Hour} {
		f, start := new(fakeTime), time.Now()
		c := newClock(t, f.config())
		all := make(seen)
		advance := func() {
			for range 5000 {
				all.add(t, stampOf(t, c))
				time.Sleep(100 * time.Microsecond)
			}
		}
		advance()
		f.shift = -step
		advance()
		stamp := stampOf(t, c)
		if d := f.now().Sub(stamp.CTime()); d < -2*time.Second || d > 2*time.Second {
			t.Errorf("after a step of %s back, stamps are %s late", step, d)
		}
		if time.Since(start) != time.Second {
			t.Errorf("a step of %s back made it wait", step)
		}
	}
}

func TestClock_RealmOffset(t *testing.T) { synctest.Test(t, realmOffset) }

func realmOffset(t *testing.T) {
	f := new(fakeTime)
	var offset time.Duration
	cfg := f.config()
	cfg.Offset = func() time.Duration { return offset }
	c := newClock(t, cfg)
	all := make(seen)
	for _, offset = range []time.Duration{0, 10 * time.Minute, -10 * time.Minute, 0, 1500 * time.Millisecond} {
		for range 1000 {
			stamp := stampOf(t, c)
			all.add(t, stamp)
			if d := stamp.CTime().Sub(f.now().Add(offset)); d > time.Second || d < -3*time.Second {
				t.Fatalf("offset %s: stamp is %s off", offset, d)
			}
		}
	}
}

func TestClock_Repeats(t *testing.T) { synctest.Test(t, repeats) }

func repeats(t *testing.T) {
	f, start := new(fakeTime), time.Now()
	c := newClock(t, f.config())
	all := make(seen)
	for i := range 3 * reservedPerSecond {
		all.add(t, stampOf(t, c))
		// The acceptor's time is told in seconds, so that the offset wavers.
		stamp := must.OK(c.StampAt(t.Context(), time.Duration(i%3-1)*400*time.Millisecond))(t)
		all.add(t, stamp)
	}
	if time.Since(start) == 0 {
		t.Error("more than 32768 repeats were stamped in a second")
	}
}

func TestClock_StartsApart(t *testing.T) { synctest.Test(t, startsApart) }

func startsApart(t *testing.T) {
	f := new(fakeTime)
	starts := make(seen)
	for i := range 50 {
		cfg := f.config()
		cfg.Rand = seeded(byte(i))
		starts.add(t, stampOf(t, newClock(t, cfg)))
	}
	if _, err := NewClock(ClockConfig{Rand: strings.NewReader("")}); err == nil {
		t.Error("a clock without chance was made")
	}
}
