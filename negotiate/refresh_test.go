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
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// A ticket from an old ticket-granting ticket ends with it. From its successor, a moment
// later, it lasts through an outage of the KDCs.
func TestServiceTicket_OutlivesOldTGT(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	tgt := must.OK(w.initiator.Login(t.Context()))(t)
	life := tgt.End().Sub(tgt.Start())
	w.Clock.Advance(life * 9 / 10) // beyond its refresh point
	ticket, _, err := serviceTicket(t, w.initiator, &w.target)
	if err != nil {
		t.Fatal(err)
	}
	if !ticket.End().After(tgt.End().Add(time.Hour)) {
		t.Errorf("it ends %s, the old ticket-granting ticket %s", ticket.End(), tgt.End())
	}
	if n := w.KDC.Counts().ASRep; n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
}

// A service ticket ends with its ticket-granting ticket. A refresh by the same one gains
// nothing: it would soon be due again, perhaps without a KDC.
func TestServiceTicket_RefreshedByNewTGT(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	w.late.Store(true)
	tgt := must.OK(w.initiator.Login(t.Context()))(t)
	w.late.Store(false)
	life := tgt.End().Sub(tgt.Start())
	for range 2 { // the second time the ticket of the first
		held, _, err := serviceTicket(t, w.initiator, &w.target)
		if err != nil {
			t.Fatal(err)
		}
		before := w.KDC.Counts()
		w.Clock.Advance(life * 3 / 4) // beyond the ticket's refresh point, not the ticket-granting ticket's
		if ticket, source, err := serviceTicket(t, w.initiator, &w.target); err != nil || ticket != held || source != cache.Cached {
			t.Fatalf("not what is held, but %v from %s: %v", ticket, source, err)
		}
		ticket := held
		for ticket == held {
			runtime.Gosched()
			if ticket, _, err = serviceTicket(t, w.initiator, &w.target); err != nil {
				t.Fatal(err)
			}
		}
		if gained := ticket.End().Sub(held.End()); gained < life/2 {
			t.Errorf("the refresh gained %s", gained)
		}
		after := w.KDC.Counts()
		if logins, tickets := after.ASRep-before.ASRep, after.TGSRep-before.TGSRep; logins != 1 || tickets != 1 {
			t.Errorf("%d logins and %d tickets for one refresh", logins, tickets)
		}
	}
}

// Without a ticket-granting ticket that lasts longer, it is not requested again with each
// service ticket.
func TestServiceTicket_TGTNotRenewable(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	login := must.OK(w.initiator.Login(t.Context()))(t)
	tgt := *login.Credential()
	tgt.Flags |= messages.TKT_FLG_RENEWABLE // the KDC knows better
	tgt.RenewTill = tgt.EndTime.Add(24 * time.Hour)
	file := ccache.CCache{DefaultPrincipal: tgt.Client, Credentials: []messages.Credential{tgt}}
	content := must.OK(file.Marshal())(t)
	id, err := negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: "ccache", Secret: negotiate.CCacheSecret(ccache.File(w.write("ccache", content))), Tickets: w.Tickets, Now: w.Clock.Now, Observe: w.Events.Observe,
	})
	if err != nil {
		t.Fatal(err)
	}
	initiator := id.Initiator(w.settings)
	w.late.Store(true)
	must.OK(initiator.Login(t.Context()))(t)
	w.late.Store(false)
	w.Clock.Advance(time.Second)
	held := make(map[*negotiate.Target]*negotiate.Ticket)
	for i := range 10 {
		name := fmt.Sprintf("HTTP/web%d.corp.example", i)
		w.Realm.AddService(name)
		spn := must.OK(negotiate.ParseSPN(name))(t)
		target := &negotiate.Target{SPN: spn}
		if held[target], _, err = serviceTicket(t, initiator, target); err != nil {
			t.Fatal(err)
		}
	}
	w.Clock.Advance(login.End().Sub(login.Start()) * 3 / 4)
	for target, old := range held {
		for ticket := old; ticket == old; runtime.Gosched() {
			if ticket, _, err = serviceTicket(t, initiator, target); err != nil {
				t.Fatal(err)
			}
		}
		w.Clock.Advance(time.Second)
	}
	if n := seen[negotiate.RenewFailed](w); n != 1 {
		t.Errorf("the KDC was asked to renew the ticket-granting ticket %d times for %d tickets", n, len(held))
	}
}

func serviceTicket(t *testing.T, i *negotiate.Initiator, target *negotiate.Target) (*negotiate.Ticket, cache.Source, error) {
	g, err := i.Grant(t.Context(), target, negotiate.DelegateNever)
	return g.Ticket, g.Source, err
}
