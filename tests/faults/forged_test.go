package faults

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// registered are all error codes that have a name.
func registered() []messages.ErrorCode {
	var codes []messages.ErrorCode
	for code := range messages.ErrorCode(256) {
		if code.Meaning() != "" {
			codes = append(codes, code)
		}
	}
	return codes
}

// datagrams counts what an observer saw.
type datagrams struct {
	mu        sync.Mutex
	errs      int
	questions map[messages.MsgType]int // that were sent
}

func (d *datagrams) ObserveMessage(_ context.Context, m kdc.MessageEvent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.Direction == kdc.Received && m.Protocol == kdc.UDP && messages.TypeOf(m.Data) == messages.KRB_ERROR {
		d.errs++
	}
	if m.Direction == kdc.Sent {
		if d.questions == nil {
			d.questions = make(map[messages.MsgType]int)
		}
		d.questions[messages.TypeOf(m.Data)]++
	}
}

func (d *datagrams) ObserveDecision(context.Context, kdc.Decision) {}

// A forged error in front of each true answer costs a question by a stream, and
// nothing else: the ticket comes, nothing is remembered, nothing is proved more often
// than twice, no clock is set, no server is thought dead.
func TestForgedErrors(t *testing.T) {
	codes := registered()
	if len(codes) < 60 {
		t.Fatalf("only %d codes have a name", len(codes))
	}
	e := newIdentityEnv(t)
	e.Realm.AddService("HTTP/other.corp.example")
	for _, code := range codes {
		t.Run(code.String(), func(t *testing.T) {
			defer e.Tickets.Drop(func(cache.Key) bool { return true })
			e.KDC.ResetCounts()
			e.KDC.ClearFaults()
			e.KDC.Use(kdctest.UDP(kdctest.ForgeFirst(code)))
			id, seen := e.Identity(negotiate.PasswordSecret(password)), new(datagrams)
			s := e.Settings(kdc.Config{Observer: seen}, 5*time.Second)
			g, err := e.grant(id, s, service)
			if err != nil {
				t.Fatal(err)
			}
			if got := g.Ticket.Credential(); got.Client.String() != principal || got.Service.String() != service+"@"+realmName {
				t.Errorf("ticket of %s for %s", got.Client, got.Service)
			}
			if refused := id.Refused(); refused != nil {
				t.Errorf("the breaker opened: %v", refused)
			}
			if n := e.Tickets.Stats().Negatives; n != 0 {
				t.Errorf("%d failures are remembered", n)
			}
			c := e.KDC.Counts()
			if c.ASReqPreAuth > 2 || c.ASReqPreAuth == 0 {
				t.Errorf("%d pre-authenticated requests", c.ASReqPreAuth)
			}
			for realm, offset := range id.Offsets() {
				if offset != 0 {
					t.Errorf("the clock of %s was set to %v", realm, offset)
				}
			}
			if seen.errs == 0 {
				t.Error("no forged error was seen: nothing was shown")
			}

			// Nothing is left of it: the next ticket takes one question.
			// They are counted where they are sent: what the KDC did not come to answer,
			// it may count yet.
			e.KDC.ClearFaults()
			seen.questions = nil
			if _, err := e.grant(id, s, "HTTP/other.corp.example"); err != nil {
				t.Fatal(err)
			}
			if as, tgs := seen.questions[messages.KRB_AS_REQ], seen.questions[messages.KRB_TGS_REQ]; tgs != 1 || as != 0 {
				t.Errorf("the next ticket took %d and %d questions", as, tgs)
			}
		})
	}
	t.Logf("%d codes forged", len(codes))
}
