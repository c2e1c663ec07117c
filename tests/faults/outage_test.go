package faults

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// A ticket of eight seconds, of which the last tenth is margin, is long enough to
// come to its refresh (at 85 % at the latest), and short enough to be waited for.
const shortLife = 8 * time.Second

func TestHeldTicketServesForTheRestOfItsLifeWhileTheKDCIsStopped(t *testing.T) {
	r := newRig(t)
	r.web.Set(kdctest.Lifetimes(shortLife, 0))
	r.load(r.usual())
	r.wantGood()
	if err := r.kdc.Interrupt(); err != nil {
		t.Fatal(err)
	}

	end := r.log.expiry(t).Add(-shortLife / 10)
	var (
		wg             sync.WaitGroup
		served, waited atomic.Int64
		failed         sync.Map
	)
	for range 16 {
		client := r.client()
		wg.Go(func() {
			for time.Now().Before(end) {
				a, err := ask(t.Context(), client, "http://"+r.sites[0]+"/")
				if !time.Now().Before(end) {
					return // it may have come too late to be served
				}
				if err = letIn(a, err); err != nil {
					failed.Store(err.Error(), true)
					return
				}
				served.Add(1)
				if a.header.Get("X-Source") != "cache" {
					waited.Add(1)
				}
			}
		})
	}
	wg.Wait()
	failed.Range(func(err, _ any) bool { t.Errorf("failed: %v", err); return true })
	if n := waited.Load(); n != 0 {
		t.Errorf("%d requests waited for the KDC", n)
	}
	// Without a refresh that failed nothing would be shown.
	r.log.await(t, `"cannot get a service ticket"`, 1)
	t.Logf("%d requests over 16 connections in the rest of a ticket's life, its refresh in vain: %d waited", served.Load(), waited.Load())

	// Afterwards a user is told at once and when to come again; with the KDC back, all is well.
	if err := r.kdc.Start(); err != nil {
		t.Fatal(err)
	}
	for {
		a := r.get("/")
		if a.good() {
			break
		}
		wantOutage(t, a)
	}
}

// expiry is when the service ticket ends that was won first.
func (c *capture) expiry(t *testing.T) time.Time {
	t.Helper()
	c.await(t, `"got a service ticket"`, 1)
	for line := range strings.Lines(c.String()) {
		if !strings.Contains(line, `"got a service ticket"`) {
			continue
		}
		var entry struct {
			Expires float64 `json:"ticket_expires"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Expires == 0 {
			t.Fatalf("%v in %s", err, line)
		}
		return time.Unix(int64(entry.Expires), 0)
	}
	return time.Time{}
}

func TestCaddyStartsBeforeTheKDC(t *testing.T) {
	r := newRig(t)
	if err := r.kdc.Interrupt(); err != nil {
		t.Fatal(err)
	}
	r.load(r.usual())
	r.log.await(t, `"cannot log in"`, 1)
	wantOutage(t, r.get("/"))
	if err := r.kdc.Start(); err != nil {
		t.Fatal(err)
	}
	for !r.get("/").good() { // what was in vain is remembered for a second
	}
	r.wantCounts(1, 1)
}

func TestReloadInTheMiddleOfALogin(t *testing.T) {
	r := newRig(t)
	gate := kdctest.NewGate()
	r.kdc.Use(gate.Slow())
	r.load(r.usual("login_at_start off"))
	answers := make(chan error, 1)
	go func() {
		a, err := ask(t.Context(), r.client(), "http://"+r.sites[0]+"/")
		answers <- letIn(a, err)
	}()
	<-gate.Arrived()
	r.load(r.usual("login_at_start off", "timeout 9s"))
	gate.Release()
	if err := <-answers; err != nil {
		t.Fatal(err)
	}
	r.wantGood()
	r.wantCounts(1, 1)
}

func TestReloadWithAnotherIdentityForgetsTheFirst(t *testing.T) {
	r := newRig(t)
	other := r.realm.AddUser("svc-other", "another secret")
	r.load(r.usual())
	r.wantGood()
	keytab := r.write("other.keytab", r.keysOf(other))
	r.load(lines("kdc "+r.kdc.Addr(), "user svc-other@"+realmName, "keytab "+keytab, "spn "+service))
	if a := r.get("/"); a.body != fmt.Sprintf("svc-other@%s\n", realmName) {
		t.Fatalf("after the reload: %v", a)
	}
	r.wantCounts(2, 2)
	r.load(r.usual())
	r.wantGood()
	r.wantCounts(3, 3)
}
