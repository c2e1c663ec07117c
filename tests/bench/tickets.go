package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// holding is an identity with n cached tickets, each used once.
type holding struct {
	n         int
	initiator *negotiate.Initiator
	targets   []*negotiate.Target
	busy      *side // ten tickets in turn
	all       *side // all of them, at random
}

// tickets measures the look-up by number of tickets, and the memory of a ticket.
func (b *bench) tickets(ctx context.Context) error {
	b.section("Many tickets", "The look-up of a ticket by identity and target, by number of cached tickets: *busy* looks up ten of them in turn, like a "+
		"proxy with a few busy services, *any* looks up all of them at random, which also measures the machine's memory.")
	s, err := b.siteFor(ticketSizes[0])
	if err != nil {
		return err
	}
	defer s.stop()
	counts := pick(b, []int{10, 100, 1000, 10_000, 100_000}, []int{10, 1000})
	names := s.addServices(counts[len(counts)-1])
	var list []*holding
	var sides []*side
	for _, n := range counts {
		h, err := b.hold(ctx, s, names[:n])
		if err != nil {
			return err
		}
		list = append(list, h)
		sides = append(sides, h.busy, h.all)
	}
	if err := race(pick(b, 41, 5), pick(b, 20*time.Millisecond, 2*time.Millisecond), sides...); err != nil {
		return err
	}
	var rows [][]string
	var x, busy, all []float64
	for _, h := range list {
		x, busy, all = append(x, float64(h.n)), append(busy, h.busy.result().median), append(all, h.all.result().median)
		rows = append(rows, []string{
			fmt.Sprint(h.n), nanos(h.busy.result().median), h.busy.to(list[0].busy).String(), nanos(h.all.result().median), h.all.to(list[0].all).String(),
		})
	}
	b.table([]string{"tickets", "busy", "to 10 tickets", "any", "to 10 tickets"}, rows)
	err = b.plot("tickets", "look-up by number of tickets", curves("Look-up by number of cached tickets", "tickets", []curve{
		{"busy", x, busy, nanos, colourOurs}, {"any", x, all, nanos, colourPeer},
	}))
	if err != nil {
		return err
	}
	first, last := list[0], list[len(list)-1]
	lookup := atMost(fmt.Sprintf("look-up among %d to that among %d", last.n, first.n), last.busy.to(first.busy), 1.2)
	list, sides = nil, nil
	return b.measureMemory(ctx, s, names, lookup)
}

// hold gets a ticket for each service, and makes a header from it.
func (b *bench) hold(ctx context.Context, s *site, names []string) (*holding, error) {
	h := &holding{n: len(names)}
	tickets := cache.New[*negotiate.Ticket](cache.Config{Memory: max(cache.DefaultMemory, int64(len(names))<<14)})
	var err error
	if h.initiator, err = ourInitiator(s, s.kdc.Addr(), tickets); err != nil {
		return nil, err
	}
	h.targets = make([]*negotiate.Target, len(names))
	const workers = 4
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(names) && errs[w] == nil; i += workers {
				errs[w] = h.warm(ctx, i, names[i])
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s.kdc.ResetCounts() // which take memory, too
	busy, i := h.spread(10), 0
	h.busy = &side{name: "busy", run: each(func() error {
		i++
		return h.lookup(ctx, busy[i%len(busy)])
	})}
	random := rand.New(rand.NewPCG(1, 2))
	h.all = &side{name: "any", run: each(func() error { return h.lookup(ctx, h.targets[random.IntN(len(h.targets))]) })}
	return h, nil
}

func (h *holding) warm(ctx context.Context, i int, name string) error {
	t, err := target(name)
	if err != nil {
		return err
	}
	h.targets[i] = t
	grant, err := h.initiator.Grant(ctx, t, negotiate.DelegateNever)
	if err != nil {
		return err
	}
	_, err = grant.Mint(ctx, negotiate.Features{})
	return err
}

// spread picks n targets, evenly.
func (h *holding) spread(n int) []*negotiate.Target {
	out := make([]*negotiate.Target, n)
	for i := range out {
		out[i] = h.targets[i*len(h.targets)/n]
	}
	return out
}

func (h *holding) lookup(ctx context.Context, t *negotiate.Target) error {
	grant, err := h.initiator.Grant(ctx, t, negotiate.DelegateNever)
	if err == nil && grant.Source != cache.Cached {
		err = fmt.Errorf("the ticket for %s was not held", t.SPN)
	}
	return err
}

// heap returns the live heap.
func heap() (bytes, objects float64) {
	runtime.GC()
	runtime.GC() // the second empties pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc), float64(m.HeapObjects)
}

// measureMemory measures the memory of tickets: the difference in live heap after the identity
// and its cache are dropped.
func (b *bench) measureMemory(ctx context.Context, s *site, names []string, lookup condition) error {
	cred, err := s.ticket(ctx)
	if err != nil {
		return err
	}
	names = names[:pick(b, min(len(names), 20_000), 1000)]
	h, err := b.hold(ctx, s, names)
	if err != nil {
		return err
	}
	targets := h.targets // belong to the caller, not to the ticket
	bytes, objects := heap()
	runtime.KeepAlive(h)
	h = nil
	bytesWithout, objectsWithout := heap()
	runtime.KeepAlive(targets)
	n := float64(len(names))
	each, eachObjects := (bytes-bytesWithout)/n, (objects-objectsWithout)/n
	bound := 3*float64(len(cred.Ticket)) + 2048
	b.printf("A ticket of %d bytes that has been used for a header takes %.0f bytes of heap in %.1f objects, including cache entry, "+
		"credential, template and derived keys (measured with %d tickets).\n\n", len(cred.Ticket), each, eachObjects, len(names))
	b.judge(4, "many tickets", lookup,
		atMost("bytes of heap for a ticket, to 3 times its size and 2 KiB,", number(each/bound), 1),
		atMost("heap objects for a ticket", number(eachObjects), 16))
	return nil
}
