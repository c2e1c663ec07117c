package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// span is the time of a KDC exchange.
type span struct{ from, to time.Time }

// spans records the times of KDC exchanges, as seen from the other side of a delay.
type spans struct {
	mu    sync.Mutex
	delay time.Duration
	list  []span
}

// watch is a fault that only records.
func (s *spans) watch(next kdctest.Handler) kdctest.Handler {
	return func(q *kdctest.Question) kdctest.Answer {
		begin := time.Now()
		a := next(q)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.list = append(s.list, span{begin.Add(-s.delay), time.Now().Add(s.delay)})
		return a
	}
}

// joined returns the spans in order and joins those that touch.
func (s *spans) joined() []span {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.list, func(a, b span) int { return a.from.Compare(b.from) })
	var out []span
	for _, one := range s.list {
		if last := len(out) - 1; last >= 0 && one.from.Before(out[last].to.Add(20*time.Millisecond)) {
			if one.to.After(out[last].to) {
				out[last].to = one.to
			}
			continue
		}
		out = append(out, one)
	}
	return out
}

// renewal measures whether ticket renewal delays requests.
func (b *bench) renewal(ctx context.Context) error {
	b.section("Renewal", "Tickets with a lifetime of six seconds, Caddy with the handler, a KDC 50 ms away, 1000 requests a second at a steady pace. The response "+
		"times of requests during a KDC exchange are compared with all others, which are divided into groups of the same number of requests.")
	s, err := b.siteFor(size{})
	if err != nil {
		return err
	}
	defer s.stop()
	s.proxy.Set(kdctest.Lifetimes(6*time.Second, 0))
	far, err := newRelay(s.kdc.Addr(), 25*time.Millisecond)
	if err != nil {
		return err
	}
	defer far.stop()
	upstream, at, err := upstreamAt(ctx, b.folder)
	if err != nil {
		return err
	}
	defer upstream.stop()
	program, err := build(ctx, b.folder, "caddy", "github.com/caddy-negotiate/caddy-negotiate/cmd/caddy")
	if err != nil {
		return err
	}
	block := fmt.Sprintf("\tnegotiate {\n\t\tkdc %s\n\t\tuser %s\n\t\tkeytab %s\n\t\tspn %s\n\t}\n\treverse_proxy %s", far.addr(), s.proxy, s.keytab, webName, at)
	c, err := startCaddy(ctx, b.folder, program, "caddy-renewal", block)
	if err != nil {
		return err
	}
	defer c.stop()
	l, err := dial(c.addr, 8)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.send(4000); err != nil { // to warm up
		return err
	}
	watch := &spans{delay: far.delay}
	s.kdc.Use(watch.watch)
	answers, err := l.pace(125, pick(b, 90*time.Second, 12*time.Second))
	if err != nil {
		return err
	}
	return b.reportRenewal(answers, watch.joined())
}

func (b *bench) reportRenewal(answers []answer, refreshes []span) error {
	during, without := split(answers, refreshes)
	if len(during) == 0 || len(without) < 2*len(during) {
		return fmt.Errorf("too few requests for a result: %d during %d refreshes, %d without", len(during), len(refreshes), len(without))
	}
	var pieces []float64
	for piece := range slices.Chunk(without, len(during)) {
		if len(piece) == len(during) {
			pieces = append(pieces, p99(piece))
		}
	}
	slices.Sort(pieces)
	in, most := p99(during), pieces[len(pieces)-1]
	b.table([]string{"", "requests", "p99 of response times"}, [][]string{
		{fmt.Sprintf("during %d refreshes", len(refreshes)), fmt.Sprint(len(during)), nanos(in)},
		{fmt.Sprintf("without, in %d groups", len(pieces)), fmt.Sprint(len(without)), fmt.Sprintf("%s to %s, median %s", nanos(pieces[0]), nanos(most), nanos(quantile(pieces, 0.5)))},
	})
	b.judge(9, "renewal does not delay requests", atMost("p99 during a refresh to the highest p99 without", number(in/most), 1))
	return nil
}

// split returns the answers during a refresh and the others, ordered by time.
func split(answers []answer, refreshes []span) (during, without []answer) {
	slices.SortFunc(answers, func(a, b answer) int { return a.at.Compare(b.at) })
	for _, a := range answers {
		end := a.at.Add(a.took)
		if slices.ContainsFunc(refreshes, func(s span) bool { return !end.Before(s.from) && !a.at.After(s.to) }) {
			during = append(during, a)
		} else {
			without = append(without, a)
		}
	}
	return during, without
}

func p99(list []answer) float64 {
	took := make([]float64, len(list))
	for i, a := range list {
		took[i] = float64(a.took)
	}
	slices.Sort(took)
	return quantile(took, 0.99)
}
