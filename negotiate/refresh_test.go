package negotiate_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// A ticket won by an old ticket-granting ticket ends with it. Won a moment later by
// its successor it serves through an outage of the KDCs.
func TestTicketWonNearTheEndOfTheTGTOutlivesIt(t *testing.T) {
	w := newWorld(t, func(*world, messages.Principal) negotiate.Secret { return negotiate.PasswordSecret("right") })
	tgt, err := w.id.Login(t.Context(), w.settings)
	if err != nil {
		t.Fatal(err)
	}
	life := tgt.End().Sub(tgt.Start())
	w.clock.advance(life * 9 / 10) // beyond its refresh point
	ticket, _, err := w.id.Ticket(t.Context(), w.settings, &w.target)
	if err != nil {
		t.Fatal(err)
	}
	if !ticket.End().After(tgt.End().Add(time.Hour)) {
		t.Errorf("it ends %s, the old ticket-granting ticket %s", ticket.End(), tgt.End())
	}
	if n := w.kdc.Counts().ASRep; n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
}

// A service ticket ends with the ticket-granting ticket that it was won by. To refresh
// it by the same one is of no use: it would soon be due again, and end perhaps before
// the KDC has answered.
func TestTicketIsRefreshedByANewTGT(t *testing.T) {
	w := newWorld(t, func(*world, messages.Principal) negotiate.Secret { return negotiate.PasswordSecret("right") })
	w.late.Store(true)
	tgt, err := w.id.Login(t.Context(), w.settings)
	if err != nil {
		t.Fatal(err)
	}
	w.late.Store(false)
	life := tgt.End().Sub(tgt.Start())
	for range 2 { // the second time what the first has won
		held, _, err := w.id.Ticket(t.Context(), w.settings, &w.target)
		if err != nil {
			t.Fatal(err)
		}
		before := w.kdc.Counts()
		w.clock.advance(life * 3 / 4) // beyond the ticket's refresh point, not the ticket-granting ticket's
		if ticket, source, err := w.id.Ticket(t.Context(), w.settings, &w.target); err != nil || ticket != held || source != cache.Cached {
			t.Fatalf("not what is held, but %v from %s: %v", ticket, source, err)
		}
		ticket := held
		for ticket == held {
			runtime.Gosched()
			if ticket, _, err = w.id.Ticket(t.Context(), w.settings, &w.target); err != nil {
				t.Fatal(err)
			}
		}
		if won := ticket.End().Sub(held.End()); won < life/2 {
			t.Errorf("the refresh won %s", won)
		}
		after := w.kdc.Counts()
		if logins, tickets := after.ASRep-before.ASRep, after.TGSRep-before.TGSRep; logins != 1 || tickets != 1 {
			t.Errorf("%d logins and %d tickets for one refresh", logins, tickets)
		}
	}
}

// Where no ticket-granting ticket that lasts longer is to be had, to ask for one again
// with each service ticket is of no use.
func TestTGTThatCannotBeRenewedIsNotRenewedForEachTicket(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	won, err := w.id.Login(t.Context(), w.settings)
	if err != nil {
		t.Fatal(err)
	}
	tgt := *won.Credential()
	tgt.Flags |= messages.TKT_FLG_RENEWABLE // the KDC knows better
	tgt.RenewTill = tgt.EndTime.Add(24 * time.Hour)
	file := ccache.CCache{DefaultPrincipal: tgt.Client, Credentials: []messages.Credential{tgt}}
	content, err := file.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	id, err := negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: "ccache", Secret: negotiate.CCacheSecret(w.write("ccache", content)), Tickets: w.tickets, Now: w.clock.Now, Observe: w.observe,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.late.Store(true)
	if _, err := id.Login(t.Context(), w.settings); err != nil {
		t.Fatal(err)
	}
	w.late.Store(false)
	w.clock.advance(time.Second)
	held := make(map[*negotiate.Target]*negotiate.Ticket)
	for i := range 10 {
		name := fmt.Sprintf("HTTP/web%d.corp.example", i)
		w.realm.AddService(name)
		spn, err := negotiate.ParseSPN(name)
		if err != nil {
			t.Fatal(err)
		}
		target := &negotiate.Target{SPN: spn}
		if held[target], _, err = id.Ticket(t.Context(), w.settings, target); err != nil {
			t.Fatal(err)
		}
	}
	w.clock.advance(won.End().Sub(won.Start()) * 3 / 4)
	for target, old := range held {
		for ticket := old; ticket == old; runtime.Gosched() {
			if ticket, _, err = id.Ticket(t.Context(), w.settings, target); err != nil {
				t.Fatal(err)
			}
		}
		w.clock.advance(time.Second)
	}
	if n := seen[negotiate.RenewFailed](w); n != 1 {
		t.Errorf("the KDC was asked to renew the ticket-granting ticket %d times for %d tickets", n, len(held))
	}
}
