package negotiate_test

import (
	"testing"
	"time"

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
