package krb5core_test

import (
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// handClock is a kdc.Clock that goes on only when it is told to.
type handClock struct {
	mu     sync.Mutex
	set    *sync.Cond // a timer was set
	now    time.Time
	start  time.Time
	timers map[*handTimer]bool
}

type handTimer struct {
	due   time.Time
	d     time.Duration
	fired chan time.Time
}

func newHandClock() *handClock {
	now := time.Now()
	c := &handClock{now: now, start: now, timers: make(map[*handTimer]bool)}
	c.set = sync.NewCond(&c.mu)
	return c
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) After(d time.Duration) (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	timer := &handTimer{c.now.Add(d), d, make(chan time.Time, 1)}
	c.timers[timer] = true
	c.set.Broadcast()
	return timer.fired, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.timers, timer)
	}
}

// pass lets time pass as soon as somebody waits for just that long.
func (c *handClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := func() bool {
		for timer := range c.timers {
			if timer.d == d {
				return true
			}
		}
		return false
	}
	for !waiting() {
		c.set.Wait()
	}
	c.now = c.now.Add(d)
	for timer := range c.timers {
		if !timer.due.After(c.now) {
			timer.fired <- c.now
			delete(c.timers, timer)
		}
	}
}

func (c *handClock) passed() time.Duration { return c.Now().Sub(c.start) }

func TestLoginAndTicketWithTheFirstKDCDead(t *testing.T) {
	for name, first := range map[string]struct {
		scheme string
		refuse bool
		cost   time.Duration // of finding out
	}{
		"refusing":                    {kdc.SchemeAny, true, 0},
		"silent":                      {kdc.SchemeUDP, false, kdc.DefaultHedgeDelay},
		"accepting and then stalling": {kdc.SchemeTCP, false, kdc.DefaultHedgeDelay},
	} {
		t.Run(name, func(t *testing.T) {
			realm := kdctest.NewRealm("CORP.EXAMPLE")
			realm.AddUser("alice", "right")
			realm.AddService("HTTP/web.corp.example")
			var servers []kdc.Server
			var kdcs []*kdctest.KDC
			for range 2 {
				k := kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}})
				if err := k.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(k.Stop)
				server, err := kdc.ParseServer(k.Addr())
				if err != nil {
					t.Fatal(err)
				}
				kdcs, servers = append(kdcs, k), append(servers, server)
			}
			servers[0].Scheme = first.scheme
			clock, gate := newHandClock(), kdctest.NewGate()
			if first.refuse {
				kdcs[0].Stop()
			}
			kdcs[0].Use(gate.Slow()) // takes the question, and never answers
			over := make(chan struct{})
			var pacer sync.WaitGroup
			pacer.Go(func() {
				for {
					select {
					case <-gate.Arrived():
						clock.pass(kdc.DefaultHedgeDelay)
					case <-over:
						return
					}
				}
			})
			defer pacer.Wait()
			defer close(over)
			finder := kdc.Static{"CORP.EXAMPLE": servers}
			sender, err := kdc.NewSender(kdc.Config{Finder: finder, Clock: clock})
			if err != nil {
				t.Fatal(err)
			}
			client, err := krb5core.NewClient(krb5core.Config{Sender: sender, Finder: finder, Timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			principal, err := krb5core.ParseUser("alice@CORP.EXAMPLE", krb5core.UserForm{})
			if err != nil {
				t.Fatal(err)
			}
			alice := krb5core.NewAccount(principal, krb5core.PasswordKeys(func() (string, error) { return "right", nil }), nil)
			service := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "web.corp.example")}
			for round := range 3 {
				tgt, err := client.Login(t.Context(), alice)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := client.ServiceTicket(t.Context(), alice, tgt, service); err != nil {
					t.Fatal(err)
				}
				if got := clock.passed(); got > first.cost {
					t.Errorf("round %d: %s have passed, want %s in all", round, got, first.cost)
				}
			}
			dead, alive := kdcs[0].Counts(), kdcs[1].Counts()
			if dead.ASReq+dead.TGSReq > 1 || dead.ASReqPreAuth != 0 {
				t.Errorf("the dead KDC was asked %d times, %d with proof of the key", dead.ASReq+dead.TGSReq, dead.ASReqPreAuth)
			}
			if alive.ASReqPreAuth != 3 || alive.TGSReq != 3 {
				t.Errorf("the other KDC saw %d logins and %d questions for tickets, want 3 and 3", alive.ASReqPreAuth, alive.TGSReq)
			}
		})
	}
}
