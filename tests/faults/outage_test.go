package faults

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// A ticket of eight seconds, of which the last tenth is margin, is long enough to
// come to its refresh (at 85 % at the latest), and short enough to be waited for.
const shortLife = 8 * time.Second

func TestOutage_HeldTicketToItsEnd(t *testing.T) {
	e := newEnv(t)
	e.Web.Set(kdctest.Lifetimes(shortLife, 0))
	e.load(e.usual())
	e.wantServed()
	if err := e.KDC.Interrupt(); err != nil {
		t.Fatal(err)
	}

	end := expiry(t, e.Log).Add(-shortLife / 10)
	var (
		wg             sync.WaitGroup
		served, waited atomic.Int64
		failed         sync.Map
	)
	for range 16 {
		client := e.Client()
		wg.Go(func() {
			for time.Now().Before(end) {
				a, err := caddytest.Ask(client, e.Request(http.MethodGet, "/"))
				if !time.Now().Before(end) {
					return // it may have come too late to be served
				}
				if err != nil || !isServed(a) {
					failed.Store(fmt.Sprint(a, err), true)
					return
				}
				served.Add(1)
				if a.Source() != "cache" {
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
	e.Log.Await(t, `"cannot get a service ticket"`, 1)
	t.Logf("%d requests over 16 connections in the rest of a ticket's life, its refresh in vain: %d waited", served.Load(), waited.Load())

	// Afterwards a user is told at once and when to come again; with the KDC back, all is well.
	if err := e.KDC.Start(); err != nil {
		t.Fatal(err)
	}
	e.awaitServed()
}

// expiry is when the service ticket ends that was won first.
func expiry(t *testing.T, log *caddytest.Log) time.Time {
	t.Helper()
	log.Await(t, `"got a service ticket"`, 1)
	for line := range strings.Lines(log.String()) {
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

func TestOutage_CaddyStartsFirst(t *testing.T) {
	e := newEnv(t)
	if err := e.KDC.Interrupt(); err != nil {
		t.Fatal(err)
	}
	e.load(e.usual())
	e.Log.Await(t, `"cannot log in"`, 1)
	wantOutage(t, e.Get("/"))
	if err := e.KDC.Start(); err != nil {
		t.Fatal(err)
	}
	e.awaitServed() // the failure is remembered for a second
	e.WantCounts(1, 1)
}

func TestReload_DuringLogin(t *testing.T) {
	e := newEnv(t)
	gate := kdctest.NewGate()
	e.KDC.Use(gate.Slow())
	e.load(e.usual("login_at_start off"))
	answers := make(chan caddytest.Answer, 1)
	go func() { answers <- e.Get("/") }()
	must.Receive(t, "a request to the KDC", gate.Arrived())
	e.load(e.usual("login_at_start off", "timeout 9s"))
	gate.Release()
	must.Receive(t, "the answer", answers).WantUser(t, principal)
	e.wantServed()
	e.WantCounts(1, 1)
}

func TestReload_AnotherIdentity(t *testing.T) {
	e := newEnv(t)
	other := e.Realm.AddUser("svc-other", "another secret")
	e.load(e.usual())
	e.wantServed()
	keytab := e.Write("other.keytab", e.KeysOf(other))
	e.load(caddytest.Lines("kdc "+e.KDC.Addr(), "user svc-other@"+realmName, "keytab "+keytab, "spn "+service))
	e.Get("/").WantUser(t, "svc-other@"+realmName)
	e.WantCounts(2, 2)
	e.load(e.usual())
	e.wantServed()
	e.WantCounts(3, 3)
}
