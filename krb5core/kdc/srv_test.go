package kdc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// zone is a resolver of the records by their full names.
func zone(records map[string][]*net.SRV) *fakeResolver {
	return &fakeResolver{srv: func(_ context.Context, name string) ([]*net.SRV, error) {
		if found, ok := records[name]; ok {
			return found, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}}
}

func srv(target string, port, priority, weight uint16) *net.SRV {
	return &net.SRV{Target: target, Port: port, Priority: priority, Weight: weight}
}

func names(servers []Server) (text []string) {
	for _, s := range servers {
		text = append(text, s.String())
	}
	return text
}

func TestSRV_PriorityThenWeight(t *testing.T) {
	resolver := zone(map[string][]*net.SRV{
		"_kerberos._udp.EXAMPLE.COM.": {
			srv("far.example.com.", 88, 10, 100), srv("heavy.example.com.", 88, 0, 70), srv("light.example.com.", 88, 0, 30), srv("none.example.com.", 88, 0, 0),
		},
	})
	for _, test := range []struct {
		lots []int
		want []string
	}{
		{[]int{0, 0, 0, 0}, []string{"none.example.com", "heavy.example.com", "light.example.com", "far.example.com"}},
		{[]int{1, 1, 0, 0}, []string{"heavy.example.com", "light.example.com", "none.example.com", "far.example.com"}},
		{[]int{70, 30, 0, 0}, []string{"heavy.example.com", "light.example.com", "none.example.com", "far.example.com"}},
		{[]int{71, 1, 0, 0}, []string{"light.example.com", "heavy.example.com", "none.example.com", "far.example.com"}},
		{[]int{100, 70, 0, 100}, []string{"light.example.com", "heavy.example.com", "none.example.com", "far.example.com"}},
	} {
		bounds, draw := []int{}, 0
		finder := NewSRV(SRVConfig{Resolver: resolver, clock: newManualClock(), intN: func(n int) int {
			bounds = append(bounds, n)
			draw++
			return test.lots[draw-1]
		}})
		got, err := finder.KDCs(t.Context(), realm)
		if err != nil || !slices.Equal(names(got), test.want) {
			t.Errorf("lots %v: got %v, %v; want %v", test.lots, names(got), err, test.want)
		}
		if bounds[0] != 101 || bounds[3] != 101 {
			t.Errorf("lots were drawn below %v, want 101 for the first and the last", bounds)
		}
	}
}

func TestSRV_DrawsByWeight(t *testing.T) {
	resolver := zone(map[string][]*net.SRV{
		"_kerberos._udp.EXAMPLE.COM.": {srv("three.example.com.", 88, 0, 30), srv("one.example.com.", 88, 0, 10)},
	})
	first := map[string]int{}
	for lot := range 41 {
		finder := NewSRV(SRVConfig{Resolver: resolver, clock: newManualClock(), intN: func(n int) int { return min(lot, n-1) }})
		got := must.OK(finder.KDCs(t.Context(), realm))(t)
		first[got[0].Host]++
	}
	if first["three.example.com"] != 31 || first["one.example.com"] != 10 {
		t.Errorf("of all lots, %v won", first)
	}
}

func TestSRV_SiteFirst(t *testing.T) {
	resolver := zone(map[string][]*net.SRV{
		"_kerberos._tcp.Berlin._sites.EXAMPLE.COM.": {srv("Near.example.com.", 88, 0, 100)},
		"_kerberos._udp.EXAMPLE.COM.":               {srv("far.example.com.", 88, 0, 100), srv("near.example.com.", 88, 0, 100)},
		"_kerberos._tcp.EXAMPLE.COM.":               {srv("far.example.com.", 88, 0, 100), srv("near.example.com.", 88, 0, 100), srv("stream.example.com.", 1088, 5, 1)},
	})
	finder := NewSRV(SRVConfig{Site: "Berlin", Resolver: resolver, clock: newManualClock()})
	got, err := finder.KDCs(t.Context(), realm)
	if want := []string{"near.example.com", "far.example.com", "tcp/stream.example.com:1088"}; err != nil || !slices.Equal(names(got), want) {
		t.Errorf("got %v, %v; want %v", names(got), err, want)
	}
}

func TestSRV_TargetDot(t *testing.T) {
	none := []*net.SRV{srv(".", 0, 0, 0)}
	one := []*net.SRV{srv("kdc.example.com.", 88, 0, 0)}
	for _, test := range []struct {
		udp, tcp []*net.SRV
		want     string
	}{
		{none, one, "tcp/kdc.example.com"},
		{one, none, "udp/kdc.example.com"},
		{one, nil, "kdc.example.com"},
		{one, one, "kdc.example.com"},
		{none, none, ""},
	} {
		records := map[string][]*net.SRV{"_kerberos._udp.EXAMPLE.COM.": test.udp}
		if test.tcp != nil {
			records["_kerberos._tcp.EXAMPLE.COM."] = test.tcp
		}
		got, err := NewSRV(SRVConfig{Resolver: zone(records), clock: newManualClock()}).KDCs(t.Context(), realm)
		if text := strings.Join(names(got), " "); text != test.want || (test.want == "") != errors.Is(err, ErrNoKDC) {
			t.Errorf("got %q, %v; want %q", text, err, test.want)
		}
	}
}

func TestSRV_CacheTimes(t *testing.T) {
	var known atomic.Bool
	resolver := &fakeResolver{}
	resolver.srv = func(_ context.Context, name string) ([]*net.SRV, error) {
		if known.Load() {
			return []*net.SRV{srv("kdc.example.com.", 88, 0, 0)}, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	clock := newManualClock()
	finder := NewSRV(SRVConfig{Resolver: resolver, clock: clock})
	expect := func(when string, found bool, lookups int64) {
		t.Helper()
		got, err := finder.KDCs(t.Context(), realm)
		if (err == nil) != found || (len(got) == 1) != found || !found && !errors.Is(err, ErrNoKDC) {
			t.Errorf("%s: got %v, %v", when, got, err)
		}
		if n := resolver.lookups.Load(); n != lookups {
			t.Errorf("%s: %d lookups, want %d", when, n, lookups)
		}
	}
	expect("at first", false, 2)
	known.Store(true)
	clock.Advance(10*time.Second - 1)
	expect("within ten seconds", false, 2)
	clock.Advance(1)
	expect("after ten seconds", true, 4)
	known.Store(false)
	clock.Advance(5*time.Minute - 1)
	expect("within five minutes", true, 4)
	clock.Advance(1)
	expect("after five minutes", false, 6)
}

func TestSRV_OldAnswerWhileDNSFails(t *testing.T) {
	var down atomic.Bool
	resolver := &fakeResolver{srv: func(_ context.Context, name string) ([]*net.SRV, error) {
		if down.Load() {
			return nil, &net.DNSError{Err: "timeout", Name: name, IsTimeout: true}
		}
		return []*net.SRV{srv("kdc.example.com.", 88, 0, 0)}, nil
	}}
	clock := newManualClock()
	finder := NewSRV(SRVConfig{Resolver: resolver, clock: clock})
	down.Store(true)
	if _, err := finder.KDCs(t.Context(), realm); err == nil || errors.Is(err, ErrNoKDC) || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("got %v", err)
	}
	down.Store(false)
	clock.Advance(srvNegativeTTL)
	for range 3 {
		if got, err := finder.KDCs(t.Context(), realm); err != nil || len(got) != 1 {
			t.Errorf("got %v, %v", got, err)
		}
		down.Store(true)
		clock.Advance(srvTTL)
	}
}

func TestSRV_CallersShareALookup(t *testing.T) {
	for name, tt := range map[string]struct {
		firstGoes bool
		lookups   int64
	}{
		"all wait":             {false, 2}, // UDP and TCP
		"the first one leaves": {true, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testSharedLookup(t, tt.firstGoes, tt.lookups) })
		})
	}
}

func testSharedLookup(t *testing.T, firstGoes bool, lookups int64) {
	release := make(chan struct{})
	resolver := &fakeResolver{srv: func(ctx context.Context, _ string) ([]*net.SRV, error) {
		select {
		case <-release:
			return []*net.SRV{srv("kdc.example.com.", 88, 0, 0)}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	finder := NewSRV(SRVConfig{Resolver: resolver, clock: newManualClock()})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const callers = 20
	results := make(chan error, callers)
	for i := range callers {
		caller := t.Context()
		if i == 0 {
			caller = ctx
		}
		go func() {
			got, err := finder.KDCs(caller, realm)
			if err == nil && len(got) != 1 {
				err = fmt.Errorf("got %v", got)
			}
			results <- err
		}()
		synctest.Wait()
	}
	waiting := callers
	if firstGoes {
		cancel()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		waiting--
		synctest.Wait()
	}
	close(release)
	for range waiting {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := resolver.lookups.Load(); n != lookups {
		t.Errorf("%d lookups, want %d", n, lookups)
	}
}

func TestSRV_AbandonedLookup(t *testing.T) {
	var impatient atomic.Bool
	impatient.Store(true)
	begun, ended := make(chan struct{}, 10), make(chan struct{}, 10)
	resolver := &fakeResolver{srv: func(ctx context.Context, _ string) ([]*net.SRV, error) {
		if !impatient.Load() {
			return []*net.SRV{srv("kdc.example.com.", 88, 0, 0)}, nil
		}
		begun <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
		return nil, ctx.Err()
	}}
	finder := NewSRV(SRVConfig{Resolver: resolver, clock: newManualClock()})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		<-begun
		cancel()
	}()
	if _, err := finder.KDCs(ctx, realm); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-ended
	<-ended
	impatient.Store(false)
	if got, err := finder.KDCs(t.Context(), realm); err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestSRV_Bounds(t *testing.T) {
	clock := newManualClock()
	finder := NewSRV(SRVConfig{Resolver: zone(nil), clock: clock})
	for i := range srvMaxRealms + 50 {
		finder.KDCs(t.Context(), fmt.Sprintf("R%d.EXAMPLE.COM", i))
	}
	if n := len(finder.realms); n > srvMaxRealms {
		t.Errorf("%d realms are remembered", n)
	}
	var many []*net.SRV
	for i := range 200 {
		many = append(many, srv(fmt.Sprintf("kdc%d.example.com.", i), 88, 0, 0))
	}
	finder = NewSRV(SRVConfig{Resolver: zone(map[string][]*net.SRV{"_kerberos._udp.EXAMPLE.COM.": many}), clock: clock})
	if got, err := finder.KDCs(t.Context(), realm); err != nil || len(got) != srvMaxTargets {
		t.Errorf("%d KDCs, %v", len(got), err)
	}
}

func TestSRV_RealmNotADomain(t *testing.T) {
	resolver := zone(nil)
	finder := NewSRV(SRVConfig{Resolver: resolver})
	for _, name := range []string{"", "X500:/C=DE", "a b", "a..b"} {
		if _, err := finder.KDCs(t.Context(), name); !errors.Is(err, ErrNoKDC) {
			t.Errorf("%q: got %v", name, err)
		}
	}
	if n := resolver.lookups.Load(); n != 0 {
		t.Errorf("%d lookups", n)
	}
}

func TestSRV_Defaults(t *testing.T) {
	var _ Resolver = net.DefaultResolver
	if f := NewSRV(SRVConfig{}); f.cfg.Resolver == nil || f.cfg.intN(1) != 0 || f.cfg.clock.Now().IsZero() {
		t.Error("defaults are missing")
	}
}

func TestFirst(t *testing.T) {
	a, b := Server{Host: "a", Port: 88}, Server{Host: "b", Port: 88}
	finder := First(Static{"A": {a}}, Static{"A": {b}, "B": {b}})
	for name, want := range map[string]Server{"A": a, "B": b} {
		if got, err := finder.KDCs(t.Context(), name); err != nil || !slices.Equal(got, []Server{want}) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	if _, err := finder.KDCs(t.Context(), "C"); !errors.Is(err, ErrNoKDC) {
		t.Errorf("got %v", err)
	}
	if _, err := First().KDCs(t.Context(), "A"); !errors.Is(err, ErrNoKDC) {
		t.Errorf("got %v", err)
	}
}
