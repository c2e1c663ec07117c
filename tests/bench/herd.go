package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// stampede is many requests at once with empty caches.
type stampede struct {
	name             string
	goroutines, each int // number of goroutines, and of consecutive requests of each
	spns             []string
	patience         time.Duration // a longer request counts as failed
}

// outcome is the result of a stampede.
type outcome struct {
	as, tgs, failed int
	took            time.Duration
}

// herd counts the KDC requests of many simultaneous requests.
func (b *bench) herd(context.Context) error {
	b.section("Herd", "Many requests at once with empty caches, counted at the KDC: AS-REP are logins, TGS-REP service tickets. A request failed if it got "+
		"no header within 10 s.")
	s, err := b.siteFor(ticketSizes[0])
	if err != nil {
		return err
	}
	defer s.stop()
	names := s.addServices(200)
	list := []stampede{
		{"1000 at once, one service", 1000, 1, names[:1], 10 * time.Second},
		{"50 at once, 200 services each", 50, 200, names, 10 * time.Second},
	}
	var rows [][]string
	var conditions []condition
	for _, st := range list {
		ours, err := b.ourHerd(s, st)
		if err != nil {
			return err
		}
		theirs, err := b.gokrb5Herd(s, st)
		if err != nil {
			return err
		}
		for _, o := range []struct {
			name string
			outcome
		}{{"ours", ours}, {"gokrb5", theirs}} {
			rows = append(rows, []string{
				st.name, o.name, fmt.Sprint(o.as), fmt.Sprint(o.tgs), fmt.Sprint(o.failed), o.took.Round(time.Millisecond).String(),
			})
		}
		conditions = append(conditions,
			atMost(st.name+": logins", number(float64(ours.as)), 1),
			atMost(st.name+": service tickets", number(float64(ours.tgs)), float64(len(st.spns))),
			atMost(st.name+": failed", number(float64(ours.failed)), 0))
	}
	b.table([]string{"", "", "AS-REP", "TGS-REP", "failed", "total time"}, rows)
	b.judge(8, "herd", conditions...)
	return nil
}

// run starts all requests at once. header is one request.
func (st stampede) run(s *site, header func(ctx context.Context, spn string) error) outcome {
	s.kdc.ResetCounts()
	var failed atomic.Int64
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for g := range st.goroutines {
		wg.Go(func() {
			<-gate
			for i := range st.each {
				ctx, cancel := context.WithTimeout(context.Background(), st.patience)
				if err := header(ctx, st.spns[(g+i)%len(st.spns)]); err != nil {
					failed.Add(1)
				}
				cancel()
			}
		})
	}
	begin := time.Now()
	close(gate)
	wg.Wait()
	c := s.kdc.Counts()
	return outcome{as: c.ASRep, tgs: c.TGSRep, failed: int(failed.Load()), took: time.Since(begin)}
}

func (b *bench) ourHerd(s *site, st stampede) (outcome, error) {
	initiator, err := ourInitiator(s, s.kdc.Addr(), cache.New[*negotiate.Ticket](cache.Config{}))
	if err != nil {
		return outcome{}, err
	}
	return st.run(s, func(ctx context.Context, spn string) error {
		t, err := target(spn)
		if err != nil {
			return err
		}
		grant, err := initiator.Grant(ctx, t, negotiate.DelegateNever)
		if err != nil {
			return err
		}
		_, err = grant.Mint(ctx, negotiate.Features{})
		return err
	}), nil
}

func (b *bench) gokrb5Herd(s *site, st stampede) (outcome, error) {
	cfg, err := gokrb5Config(s.kdc.Addr(), "", false)
	if err != nil {
		return outcome{}, err
	}
	cl, err := gokrb5Client(s, cfg)
	if err != nil {
		return outcome{}, err
	}
	defer cl.Destroy()
	return st.run(s, func(ctx context.Context, spn string) error {
		// gokrb5 has no contexts: a late header counts as failed.
		begin := time.Now()
		_, err := gokrb5Header(cl, spn)
		if err == nil && time.Since(begin) > st.patience {
			err = ctx.Err()
		}
		return err
	}), nil
}
