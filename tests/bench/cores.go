package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
)

// parallel returns a side that calls functions on several cores at once, which also run
// the garbage collector: run(n) calls each n times. make returns the function of one
// core.
func parallel(name string, cores int, make func(i int) func() error) *side {
	list := []func() error{}
	for i := range cores {
		list = append(list, make(i))
	}
	return &side{name: name, run: func(n int) (time.Duration, error) {
		errs := newErrors(cores)
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
		var wg sync.WaitGroup
		begin := time.Now()
		for i, f := range list {
			wg.Go(func() {
				for range n {
					if err := f(); err != nil {
						errs[i] = err
						return
					}
				}
			})
		}
		wg.Wait()
		return time.Since(begin), errors.Join(errs...)
	}}
}

func newErrors(n int) []error { return make([]error, n) }

// liveHeap allocates some MiB in small pieces, like a server's connections and tickets,
// and collects the garbage.
func liveHeap(mib int) [][]byte {
	heap := make([][]byte, mib<<10)
	for i := range heap {
		heap[i] = make([]byte, 1<<10)
	}
	runtime.GC()
	return heap
}

// scaled is a token maker on one core and on all.
type scaled struct {
	name     string
	one, all *side
}

// cores measures how much more tokens two cores make than one.
func (b *bench) cores(ctx context.Context) error {
	n := runtime.GOMAXPROCS(0)
	b.section("More cores", fmt.Sprintf("Tokens a second on %d cores over tokens a second on one, with 256 MiB of live heap in the Go processes for the "+
		"garbage collector to mark. One core includes garbage collection (GOMAXPROCS). The floor shares nothing between cores, and its "+
		"tail makes no garbage: the two show the gain that the machine and the garbage collector allow.", n))
	s, err := b.siteFor(ticketSizes[0])
	if err != nil {
		return err
	}
	defer s.stop()
	cred, err := s.ticket(ctx)
	if err != nil {
		return err
	}
	made, err := templates(cred, 4*n, 0)
	if err != nil {
		return err
	}
	bindings := gss.ChannelBindings{1}
	ours := func(i int) func() error {
		k := 0
		return func() error {
			k++
			_, _, err := made[4*i+k%4].Header(ctx, &bindings)
			return err
		}
	}
	list := []scaled{{"ours, template", parallel("ours, 1 core", 1, ours), parallel("ours, all cores", n, ours)}}
	sample, _, err := made[0].Header(ctx, &bindings)
	if err != nil {
		return err
	}
	for _, one := range []struct {
		name string
		of   func(*floor) func() error
	}{
		{"floor: tail, subkey and string", func(f *floor) func() error { return f.full }},
		{"floor: the tail only", func(f *floor) func() error { return f.end }},
	} {
		floors := make([]*floor, n)
		for i := range floors {
			if floors[i], err = newFloor(sample); err != nil {
				return err
			}
		}
		of := func(i int) func() error { return one.of(floors[i]) }
		list = append(list, scaled{one.name, parallel(one.name+", 1 core", 1, of), parallel(one.name+", all cores", n, of)})
	}
	cfg, err := gokrb5Config(s.kdc.Addr(), "", false)
	if err != nil {
		return err
	}
	peer, err := gokrb5Client(s, cfg)
	if err != nil {
		return err
	}
	defer peer.Destroy()
	theirs := func(int) func() error {
		return func() error {
			_, err := gokrb5Header(peer, webName)
			return err
		}
	}
	list = append(list, scaled{"gokrb5 SetSPNEGOHeader", parallel("gokrb5, 1 core", 1, theirs), parallel("gokrb5, all cores", n, theirs)})
	if b.mit != "" {
		d, err := b.mitCache(ctx, s, "MEMORY", 10, writeTickets(cred))
		if err != nil {
			return err
		}
		defer d.stop()
		threads := func(t int) func(int) (time.Duration, error) {
			return func(n int) (time.Duration, error) { return d.run(n, t) }
		}
		list = append(list, scaled{"MIT, MEMORY cache", &side{name: "MIT, 1 thread", run: threads(1)}, &side{name: "MIT, a thread each core", run: threads(n)}})
	}
	heap := liveHeap(256)
	var sides []*side
	for _, l := range list {
		sides = append(sides, l.one, l.all)
	}
	if err := race(pick(b, 31, 3), pick(b, 100*time.Millisecond, 10*time.Millisecond), sides...); err != nil {
		return err
	}
	runtime.KeepAlive(heap)
	b.reportCores(n, list)
	return nil
}

func (b *bench) reportCores(n int, list []scaled) {
	var rows [][]string
	for _, l := range list {
		// Each of the n cores does the work of the one core.
		gain := ratios(l.one.samples, l.all.samples)
		gain.median, gain.low, gain.high = gain.median*float64(n), gain.low*float64(n), gain.high*float64(n)
		rows = append(rows, []string{
			l.name, fmt.Sprintf("%.0f", 1e9/l.one.result().median), fmt.Sprintf("%.0f", float64(n)*1e9/l.all.result().median), gain.String(),
		})
	}
	ours, garbage := list[0], list[1] // the floor with the string, which makes the same garbage
	b.judge(3, fmt.Sprintf("tokens a second on %d cores", n),
		atLeast("gain over one core, by the gain of the floor that makes the same garbage", growth(ours.one, ours.all, garbage.one, garbage.all), 0.95))
	b.table([]string{"", "tokens a second, 1 core", fmt.Sprintf("%d cores", n), "gain"}, rows)
}
