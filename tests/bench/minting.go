package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// ticketSizes are the sizes of tickets without or with a small PAC, and of a user in
// some hundred groups.
var ticketSizes = []size{{"1.3 kB", 1300}, {"6 kB", 6000}}

// mintingHeap is the live heap during the measurement, in MiB.
const mintingHeap = 16

// heaps measures how the live heap affects the longer string: with a larger heap its
// memory is less likely to be in the processor's caches.
func (b *bench) heaps(small, large *mintSides) error {
	var rows [][]string
	for _, mib := range pick(b, []int{4, 8, mintingHeap, 32, 64, 256}, []int{4, mintingHeap}) {
		fresh := func(s *side) *side { return &side{name: s.name, run: s.run} }
		ours, oursSmall, floor, floorSmall := fresh(large.header), fresh(small.header), fresh(large.floor), fresh(small.floor)
		heap := liveHeap(mib)
		if err := race(pick(b, 21, 3), pick(b, 20*time.Millisecond, 4*time.Millisecond), ours, oursSmall, floor, floorSmall); err != nil {
			return err
		}
		runtime.KeepAlive(heap)
		rows = append(rows, []string{fmt.Sprintf("%d MiB", mib), nanos(ours.result().median), ours.to(oursSmall).String(), floor.to(floorSmall).String()})
	}
	b.printf("Time for a header from the ticket of 6 kB compared with one from the ticket of 1.3 kB, by live heap: the longer string takes more memory, which " +
		"with a small heap is collected often, and with a large heap is not in the processor's caches.\n\n")
	b.table([]string{"live heap", "6 kB, ours", "to 1.3 kB, ours", "to 1.3 kB, floor"}, rows)
	return nil
}

// mintSides are the token makers for one size of ticket.
type mintSides struct {
	header, identity, gokrb5, memory *side // memory may be nil
	whole, tail, floor               *side
	allocs, peerAllocs               float64
	headerLen                        int
}

// minting measures header values from a cached ticket.
func (b *bench) minting(ctx context.Context) error {
	b.section("Making a header", "A value for Authorization from a cached ticket: AES-256-CTS-HMAC-SHA1-96, a new authenticator with a subkey, "+
		"SPNEGO, base64. *Template* mints from the prepared ticket (krb5core/gss); *identity* is all the work for a warm request: ticket cache, "+
		"template, header (without channel bindings). The *floor* is the standard library's primitives alone, without what makes a token valid. MIT's side does not encode "+
		"base64. The Go side has 16 MiB of live heap: a Caddy has 4 MiB when idle, more with connections and tickets.")
	var sets []*mintSides
	for _, z := range ticketSizes {
		m, stop, err := b.mintSides(ctx, z)
		if err != nil {
			return err
		}
		defer stop()
		sets = append(sets, m)
	}
	var all []*side
	for _, m := range sets {
		for _, s := range []*side{m.header, m.floor, m.tail, m.whole, m.identity, m.gokrb5, m.memory} {
			if s != nil {
				all = append(all, s)
			}
		}
	}
	heap := liveHeap(mintingHeap)
	if err := race(pick(b, 41, 5), pick(b, 40*time.Millisecond, 4*time.Millisecond), all...); err != nil {
		return err
	}
	runtime.KeepAlive(heap)
	for i, m := range sets {
		if err := b.mintTable(ticketSizes[i], m); err != nil {
			return err
		}
	}
	if err := b.heaps(sets[0], sets[1]); err != nil {
		return err
	}
	b.judgeMinting(sets[0], sets[1])
	return b.fileCaches(ctx, sets[0])
}

// mintSides prepares all sides with their tickets.
func (b *bench) mintSides(ctx context.Context, z size) (m *mintSides, stop func(), err error) {
	s, err := b.siteFor(z)
	if err != nil {
		return nil, nil, err
	}
	m, stops := new(mintSides), []func(){s.stop}
	stop = func() {
		for _, f := range stops {
			f()
		}
	}
	if err := b.ourSides(ctx, s, m); err != nil {
		stop()
		return nil, nil, err
	}
	cfg, err := gokrb5Config(s.kdc.Addr(), "", false)
	if err != nil {
		stop()
		return nil, nil, err
	}
	peer, err := gokrb5Client(s, cfg)
	if err != nil {
		stop()
		return nil, nil, err
	}
	stops = append(stops, peer.Destroy)
	m.gokrb5 = &side{name: "gokrb5 SetSPNEGOHeader", run: each(func() error {
		_, err := gokrb5Header(peer, webName)
		return err
	})}
	m.peerAllocs = testing.AllocsPerRun(20, func() { _, _ = m.gokrb5.run(1) })
	if b.mit == "" {
		return m, stop, nil
	}
	cred, err := s.ticket(ctx)
	if err == nil {
		var d *driver
		if d, err = b.mitCache(ctx, s, "MEMORY", 10, writeTickets(cred)); err == nil {
			stops = append(stops, d.stop)
			m.memory = d.side("MIT gss_init_sec_context, MEMORY cache")
		}
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return m, stop, nil
}

func (b *bench) ourSides(ctx context.Context, s *site, m *mintSides) error {
	cred, err := s.ticket(ctx)
	if err != nil {
		return err
	}
	made, err := templates(cred, 4, 0)
	if err != nil {
		return err
	}
	bindings := gss.ChannelBindings{1}
	i := 0
	m.header = &side{name: "ours, template", run: each(func() error {
		i++
		_, _, err := made[i%len(made)].Header(ctx, &bindings)
		return err
	})}
	m.allocs = testing.AllocsPerRun(1000, func() { _, _ = m.header.run(1) })
	tickets := cache.New[*negotiate.Ticket](cache.Config{})
	initiator, err := ourInitiator(s, s.kdc.Addr(), tickets)
	if err != nil {
		return err
	}
	t, err := target(webName)
	if err != nil {
		return err
	}
	m.identity = &side{name: "ours, identity", run: each(func() error {
		grant, err := initiator.Grant(ctx, t, negotiate.DelegateNever)
		if err != nil {
			return err
		}
		_, err = grant.Mint(ctx, negotiate.Features{})
		return err
	})}
	sample, _, err := made[0].Header(ctx, &bindings)
	if err != nil {
		return err
	}
	m.headerLen = len(sample)
	f, err := newFloor(sample)
	if err != nil {
		return err
	}
	m.whole = &side{name: "floor: the whole token", run: each(f.whole)}
	m.tail = &side{name: "floor: the tail only", run: each(f.end)}
	m.floor = &side{name: "floor: tail, subkey and string", run: each(f.full)}
	return nil
}

func (b *bench) mintTable(z size, m *mintSides) error {
	rows := [][]string{{"time each", "to ours", "allocations"}}
	var list []bar
	add := func(s *side, allocs string) {
		if s == nil {
			return
		}
		took := s.result()
		rows = append(rows, []string{s.name, nanos(took.median), s.to(m.header).String(), allocs})
		list = append(list, bar{s.name, took.median, nanos(took.median), s == m.header || s == m.identity})
	}
	add(m.header, fmt.Sprintf("%.0f", m.allocs))
	add(m.identity, "")
	add(m.floor, "1")
	add(m.tail, "0")
	add(m.whole, "0")
	add(m.memory, "")
	add(m.gokrb5, fmt.Sprintf("%.0f", m.peerAllocs))
	b.printf("Ticket of %s, header of %d bytes (times are absolute figures):\n\n", z.name, m.headerLen)
	b.table([]string{"", rows[0][0], rows[0][1], rows[0][2]}, rows[1:])
	name := fmt.Sprintf("minting-%d", z.bytes)
	return b.plot(name, "time for a header", bars("A header from a ticket of "+z.name+" (logarithmic)", true, list))
}

func (b *bench) judgeMinting(small, large *mintSides) {
	toMIT := leftOut("to MIT, MEMORY cache", b.noMIT)
	if small.memory != nil {
		toMIT = atLeast("MIT's time to ours", small.memory.to(small.header), 20)
	}
	b.judge(1, "header, 1.3 kB ticket",
		atMost("to the floor", small.header.to(small.floor), 1.3),
		atMost("allocations", number(small.allocs), 2),
		atLeast("gokrb5's time to ours", small.gokrb5.to(small.header), 25),
		toMIT)
	b.judge(2, "header, 6 kB ticket",
		atMost("to that of 1.3 kB, by the floor's own ratio", growth(large.header, small.header, large.floor, small.floor), 1.05),
		atLeast("gokrb5's time to ours", large.gokrb5.to(large.header), 40))
}

// growth is the ratio of a to b by that of c to d, round by round.
func growth(a, b, c, d *side) estimate {
	ours, theirs := make([]float64, 0, len(a.samples)), make([]float64, 0, len(a.samples))
	for i := range min(len(a.samples), len(b.samples), len(c.samples), len(d.samples)) {
		ours, theirs = append(ours, a.samples[i]/b.samples[i]), append(theirs, c.samples[i]/d.samples[i])
	}
	return ratios(ours, theirs)
}

// ticketWriter writes a credential cache with n tickets and returns ten services.
type ticketWriter func(path string, n int) (services []string, err error)

// mitCache starts the driver on a credential cache with n tickets.
func (b *bench) mitCache(ctx context.Context, s *site, kind string, n int, write ticketWriter) (*driver, error) {
	path := filepath.Join(s.folder, fmt.Sprintf("ccache-%d", n))
	services, err := write(path, n)
	if err != nil {
		return nil, err
	}
	args := []string{"mint", "FILE:" + path, "-"}
	if kind == "MEMORY" {
		args = []string{"mint", "MEMORY:bench", "FILE:" + path}
	}
	return startMIT(ctx, b.mit, s, s.kdc.Addr(), append(args, services...)...)
}

// fileCaches measures MIT's credential caches by number of tickets.
func (b *bench) fileCaches(ctx context.Context, ours *mintSides) error {
	if b.mit == "" {
		return nil
	}
	s, err := b.siteFor(ticketSizes[0])
	if err != nil {
		return err
	}
	defer s.stop()
	cred, err := s.ticket(ctx)
	if err != nil {
		return err
	}
	var rows [][]string
	took := ours.header.result().median
	for _, kind := range []string{"MEMORY", "FILE"} {
		for _, n := range pick(b, []int{10, 1000, 10_000}, []int{10, 1000}) {
			d, err := b.mitCache(ctx, s, kind, n, writeTickets(cred))
			if err != nil {
				return err
			}
			one := d.side(fmt.Sprintf("%s, %d tickets", kind, n))
			err = race(pick(b, 7, 2), pick(b, 40*time.Millisecond, 4*time.Millisecond), one)
			d.stop()
			if err != nil {
				return err
			}
			rows = append(rows, []string{one.name, nanos(one.result().median), fmt.Sprintf("%.0f", one.result().median/took)})
		}
	}
	b.printf("MIT's gss_init_sec_context by kind of credential cache and number of tickets in it, ten of them in use (absolute figures; "+
		"the ratio is to our template's %s above):\n\n", nanos(took))
	b.table([]string{"", "time each", "to ours"}, rows)
	return nil
}
