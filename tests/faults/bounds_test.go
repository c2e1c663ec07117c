package faults

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// However many services are asked for at once, the KDC sees a queue and no flood.
func TestBounds_ExchangesQueue(t *testing.T) {
	const services = 300
	e := newIdentityEnv(t)
	for i := range services {
		e.Realm.AddService(fmt.Sprintf("HTTP/web%d.corp.example", i))
	}
	id, s := e.Identity(negotiate.PasswordSecret(password)), e.Settings(kdc.Config{}, time.Minute) // however busy the machine
	if _, err := id.Initiator(s).Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	gate := kdctest.NewGate()
	var under, most atomic.Int64
	e.KDC.Use(kdctest.TGS(func(next kdctest.Handler) kdctest.Handler {
		next = gate.Slow()(next)
		return func(q *kdctest.Question) kdctest.Answer {
			n := under.Add(1)
			defer under.Add(-1)
			for {
				seen := most.Load()
				if n <= seen || most.CompareAndSwap(seen, n) {
					break
				}
			}
			return next(q)
		}
	}))
	var wg sync.WaitGroup
	var failed atomic.Int64
	for i := range services {
		wg.Go(func() {
			if _, err := e.grant(id, s, fmt.Sprintf("HTTP/web%d.corp.example", i)); err != nil {
				failed.Add(1)
			}
		})
	}
	for range cache.MaxFetches {
		must.Receive(t, "a request to the KDC", gate.Arrived())
	}
	caddytest.WaitFor(t, "all want their ticket", func() bool { return e.Tickets.Stats().Fetches == services })
	gate.Release()
	wg.Wait()
	if failed.Load() != 0 {
		t.Errorf("%d failed", failed.Load())
	}
	if n := most.Load(); n > cache.MaxFetches {
		t.Errorf("%d questions at a time, want %d at most", n, cache.MaxFetches)
	}
}

// Names that clients invent are refused once each, remembered in little memory, and
// do not displace what is of use.
func TestBounds_UnknownServices(t *testing.T) {
	const hosts = 1500
	e := newIdentityEnv(t)
	e.Tickets.SetMemory(1 << 20)
	id, s := e.Identity(negotiate.PasswordSecret(password)), e.settings()
	if _, err := e.grant(id, s, service); err != nil {
		t.Fatal(err)
	}
	for i := range hosts {
		if _, err := e.grant(id, s, fmt.Sprintf("HTTP/invented%d.corp.example", i)); err == nil {
			t.Fatal("a ticket for what does not exist")
		}
	}
	stats := e.Tickets.Stats()
	if stats.Bytes > stats.Memory || stats.Negatives >= hosts || stats.Negatives == 0 {
		t.Errorf("%+v", stats)
	}
	e.KDC.ResetCounts()
	if _, err := e.grant(id, s, service); err != nil {
		t.Fatal(err)
	}
	if _, err := e.grant(id, s, fmt.Sprintf("HTTP/invented%d.corp.example", hosts-1)); err == nil {
		t.Fatal("a ticket for what does not exist")
	}
	if c := e.KDC.Counts(); c.UDP+c.TCP != 0 {
		t.Errorf("the KDC was asked %d times for what is known: %v", c.UDP+c.TCP, c.Errors[messages.KDC_ERR_S_PRINCIPAL_UNKNOWN])
	}
}
