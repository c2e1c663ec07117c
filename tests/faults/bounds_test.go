package faults

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// However many services are asked for at once, the KDC sees a queue and no flood.
func TestExchangesQueue(t *testing.T) {
	const services = 300
	l := newLab(t)
	for i := range services {
		l.realm.AddService(fmt.Sprintf("HTTP/web%d.corp.example", i))
	}
	id, s := l.identity(negotiate.PasswordSecret(password)), l.patient()
	if _, err := id.Login(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	gate := kdctest.NewGate()
	var under, most atomic.Int64
	l.kdc.Use(kdctest.TGS(func(next kdctest.Handler) kdctest.Handler {
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
			if _, err := l.grant(id, s, fmt.Sprintf("HTTP/web%d.corp.example", i)); err != nil {
				failed.Add(1)
			}
		})
	}
	for range cache.DefaultFetches {
		<-gate.Arrived()
	}
	eventually(t, "all want their ticket", func() bool { return l.tickets.Stats().Flights == services })
	gate.Release()
	wg.Wait()
	if failed.Load() != 0 {
		t.Errorf("%d failed", failed.Load())
	}
	if n := most.Load(); n > cache.DefaultFetches {
		t.Errorf("%d questions at a time, want %d at most", n, cache.DefaultFetches)
	}
}

// Names that clients invent are refused once each, remembered in little memory, and
// do not displace what is of use.
func TestUnknownServicesAreRememberedInBoundedMemory(t *testing.T) {
	const hosts = 1500
	l := newLab(t)
	l.tickets.SetMemory(1 << 20)
	id, s := l.identity(negotiate.PasswordSecret(password)), l.settings()
	if _, err := l.grant(id, s, service); err != nil {
		t.Fatal(err)
	}
	for i := range hosts {
		if _, err := l.grant(id, s, fmt.Sprintf("HTTP/invented%d.corp.example", i)); err == nil {
			t.Fatal("a ticket for what does not exist")
		}
	}
	stats := l.tickets.Stats()
	if stats.Bytes > stats.Memory || stats.Negatives >= hosts || stats.Negatives == 0 {
		t.Errorf("%+v", stats)
	}
	l.kdc.ResetCounts()
	if _, err := l.grant(id, s, service); err != nil {
		t.Fatal(err)
	}
	if _, err := l.grant(id, s, fmt.Sprintf("HTTP/invented%d.corp.example", hosts-1)); err == nil {
		t.Fatal("a ticket for what does not exist")
	}
	if c := l.kdc.Counts(); c.UDP+c.TCP != 0 {
		t.Errorf("the KDC was asked %d times for what is known: %v", c.UDP+c.TCP, c.Errors[messages.KDC_ERR_S_PRINCIPAL_UNKNOWN])
	}
}
