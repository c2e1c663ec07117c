package faults

import (
	"runtime"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// What users see while a KDC is at fault: those whose ticket is held nothing, others
// what the row says.
const (
	servedCold = "held: 200 without a question. not held: 200"
	failedCold = "held: 200 without a question. not held: 503, Retry-After, and the next at once; then 200"
)

var kdcFaults = []fault{
	{"KDC silent", failedCold, withoutKDC(kdctest.Silent())},
	{"KDC resets streams, ignores datagrams", failedCold, withoutKDC(kdctest.Reset())},
	{"KDC cuts its answers", failedCold, withoutKDC(kdctest.Cut(60))},
	{"KDC cuts its datagrams", servedCold, inSpiteOf(kdctest.UDP(kdctest.Cut(60)))},
	{"KDC announces 4 GiB", failedCold + "; not allocated", func(t *testing.T) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		e := newWarmEnv(t, "timeout 400ms", "use_tcp")
		e.KDC.Use(kdctest.Announce(0xffffffff))
		wantOutage(t, e.getAt(1))
		e.wantHeld()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 256<<20 {
			t.Errorf("%d MiB were allocated", n>>20)
		}
		e.KDC.ClearFaults()
		e.awaitSecond()
	}},
	{"KDC answers garbage", failedCold, withoutKDC(kdctest.Garbage(300))},
	{"KDC answers with another nonce", failedCold, withoutKDC(kdctest.WrongNonce())},
	{
		"KDC answers with another user's ticket, canonicalize off", failedCold + "; never the other user",
		withoutKDC(kdctest.AnotherUser("mallory"), "canonicalize off"),
	}, // else the KDC may correct the name
	{"late errors before the true answer", servedCold, inSpiteOf(kdctest.UDP(kdctest.Stale()))},
	{"forged refusal before the true answer", servedCold, inSpiteOf(kdctest.UDP(kdctest.ForgeFirst(messages.KDC_ERR_CLIENT_REVOKED)))},
	{"forged \"wrong key\" before the true answer", servedCold, inSpiteOf(kdctest.UDP(kdctest.ForgeFirst(messages.KDC_ERR_PREAUTH_FAILED)))},
	{"every second datagram lost", servedCold, inSpiteOf(kdctest.Every(2, kdctest.Lose()))},
	{"every second answer lost", servedCold, inSpiteOf(kdctest.Every(2, kdctest.LoseReply()))},
	{"UDP filtered", servedCold, inSpiteOf(kdctest.StreamOnly())},
	{"KDC says it cannot serve", failedCold, withoutKDC(kdctest.Fail(messages.KDC_ERR_SVC_UNAVAILABLE))},
	{"KDC fails within (KRB_ERR_GENERIC)", "held: 200 without a question. not held: 5xx, and 200 afterwards", func(t *testing.T) {
		e := newWarmEnv(t, "timeout 1s")
		e.KDC.Use(kdctest.Fail(messages.KRB_ERR_GENERIC))
		if a := e.getAt(1); a.Status < 500 {
			t.Fatal(a)
		}
		e.wantHeld()
		if e.Log.Contains("login not tried again") {
			t.Error("the breaker opened by an error that says nothing about the account")
		}
		e.KDC.ClearFaults()
		e.awaitSecond()
	}},
	{"KDC slow", "held: 200 meanwhile. not held: 200 when it answers", func(t *testing.T) {
		e := newWarmEnv(t)
		gate := kdctest.NewGate()
		e.KDC.Use(gate.Slow())
		answers := make(chan caddytest.Answer, 1)
		go func() { answers <- e.getAt(1) }()
		must.Receive(t, "a request to the KDC", gate.Arrived())
		e.wantServed()
		gate.Release()
		must.Receive(t, "the answer", answers).WantUser(t, secondPrincipal)
	}},
	{"KDC's clock an hour behind", "held: 200. not held: 200, the clock learnt, the token repeated by the upstream's", func(t *testing.T) {
		e := newWarmEnv(t)
		e.KDC.JumpClock(-time.Hour)
		e.wantHeld()
		e.wantSecond()
	}},
	{"KDC's and upstream's clocks an hour ahead", "200 by one repeat of the token; not held: 200", func(t *testing.T) {
		e := newWarmEnv(t)
		e.KDC.JumpClock(time.Hour)
		e.UpdateAcceptor(func(c *kdctest.AcceptorConfig) {
			c.Now = func() time.Time { return time.Now().Add(time.Hour) }
		})
		e.wantHeld()
		e.wantSecond()
	}},
	{"first KDC stopped, second good", "200", func(t *testing.T) {
		e := newEnv(t)
		second := e.startKDC()
		e.KDC.Stop()
		e.load(caddytest.Lines("kdc "+e.KDC.Addr()+" "+second.Addr(), "user "+principal, "keytab "+e.Keytab, "spn "+service))
		e.wantServed()
	}},
}

// inSpiteOf is the test of a fault that no user notices.
func inSpiteOf(f kdctest.Fault) func(*testing.T) {
	return func(t *testing.T) {
		e := newWarmEnv(t, "timeout 10s")
		e.KDC.Use(f)
		e.wantHeld()
		e.wantSecond()
		e.wantHeld()
	}
}

// withoutKDC is the test of a fault that has no KDC answer.
func withoutKDC(f kdctest.Fault, more ...string) func(*testing.T) {
	return func(t *testing.T) {
		// Shorter than the first pause before a datagram is sent again.
		e := newWarmEnv(t, append(more, "timeout 400ms")...)
		e.Realm.AddUser("mallory", "a third secret")
		e.KDC.Use(f)
		e.wantHeld()
		wantOutage(t, e.getAt(1))
		before := e.sent()
		wantOutage(t, e.getAt(1)) // remembered
		if e.sent() != before {
			t.Error("the next request asked the KDC again")
		}
		e.wantHeld()
		e.KDC.ClearFaults()
		e.awaitSecond()
	}
}
