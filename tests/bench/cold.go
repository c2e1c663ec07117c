package bench

import (
	"context"
	"fmt"
	"time"
)

// cold measures a login and a service ticket.
func (b *bench) cold(ctx context.Context) error {
	b.section("Cold start", "A login with a keytab and a service ticket, with empty caches. *First login* also requests the account's salt and key types, "+
		"as a proxy does once. The KDC runs in this process; 5 ms away means that a relay delays each datagram by 2.5 ms in each direction.")
	s, err := b.siteFor(size{})
	if err != nil {
		return err
	}
	defer s.stop()
	far, err := newRelay(s.kdc.Addr(), 2500*time.Microsecond)
	if err != nil {
		return err
	}
	defer far.stop()
	var rows [][]string
	var last *coldSides
	for _, place := range []struct {
		name, addr string
	}{{"near", s.kdc.Addr()}, {"5 ms away", far.addr()}} {
		c, err := b.coldSides(ctx, s, place.addr)
		if err != nil {
			return err
		}
		err = race(pick(b, 31, 3), 0, c.sides()...)
		if err == nil {
			rows, err = b.coldRows(rows, s, place.name, c)
		}
		c.stop()
		if err != nil {
			return err
		}
		last = c
	}
	b.table([]string{"KDC", "", "exchanges", "time each", "to ours"}, rows)
	return b.judgeCold(last)
}

// coldSides are the clients that log in.
type coldSides struct {
	known, first, gokrb5, mit *side // mit may be nil
	exchanges                 map[*side]int
	driver                    *driver
}

func (c *coldSides) sides() []*side {
	list := []*side{c.known, c.first, c.gokrb5}
	if c.mit != nil {
		list = append(list, c.mit)
	}
	return list
}

func (c *coldSides) stop() {
	if c.driver != nil {
		c.driver.stop()
	}
}

func (b *bench) coldSides(ctx context.Context, s *site, addr string) (*coldSides, error) {
	client, err := ourClient(addr, false)
	if err != nil {
		return nil, err
	}
	account, err := ourAccount(s)
	if err != nil {
		return nil, err
	}
	if _, err := coldStart(ctx, client, account); err != nil { // learns salt and type
		return nil, err
	}
	const turn = 4
	c := &coldSides{exchanges: make(map[*side]int)}
	c.known = &side{name: "ours", n: turn, run: each(func() error {
		_, err := coldStart(ctx, client, account)
		return err
	})}
	c.first = &side{name: "ours, the account's first login", n: turn, run: each(func() error {
		account, err := ourAccount(s)
		if err != nil {
			return err
		}
		_, err = coldStart(ctx, client, account)
		return err
	})}
	cfg, err := gokrb5Config(addr, "", false)
	if err != nil {
		return nil, err
	}
	c.gokrb5 = &side{name: "gokrb5", n: turn, run: each(func() error {
		cl, err := gokrb5Client(s, cfg)
		if err != nil {
			return err
		}
		defer cl.Destroy()
		if err := cl.Login(); err != nil {
			return err
		}
		_, _, err = cl.GetServiceTicket(webName)
		return err
	})}
	if b.mit != "" {
		c.driver, err = startMIT(ctx, b.mit, s, addr, "cold", "FILE:"+s.keytab, s.proxy.String(), webName+"@"+realmName)
		if err != nil {
			return nil, err
		}
		c.mit = c.driver.side("MIT C API")
		c.mit.n = turn
	}
	return c, nil
}

// coldRows counts the exchanges of one more start of each side, and appends a row for it.
func (b *bench) coldRows(rows [][]string, s *site, place string, c *coldSides) ([][]string, error) {
	for _, one := range c.sides() {
		s.kdc.ResetCounts()
		if _, err := one.run(1); err != nil {
			return nil, err
		}
		c.exchanges[one] = s.exchanges()
		rows = append(rows, []string{place, one.name, fmt.Sprint(c.exchanges[one]), nanos(one.result().median), one.to(c.known).String()})
	}
	return rows, nil
}

func (b *bench) judgeCold(c *coldSides) error {
	conditions := []condition{atMost("exchanges", number(float64(c.exchanges[c.known])), 2)}
	if c.mit != nil {
		conditions = append(conditions, atMost("time to MIT's", c.known.to(c.mit), 0.72))
	} else {
		conditions = append(conditions, leftOut("time to MIT's", b.noMIT))
	}
	b.judge(7, "cold start, salt and type known, KDC 5 ms away", conditions...)
	var list []bar
	for _, one := range c.sides() {
		took := one.result().median
		list = append(list, bar{fmt.Sprintf("%s (%d)", one.name, c.exchanges[one]), took, nanos(took), one == c.known || one == c.first})
	}
	return b.plot("cold", "cold start", bars("Login and service ticket, KDC 5 ms away (exchanges)", false, list))
}
