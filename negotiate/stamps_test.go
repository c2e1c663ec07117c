package negotiate

import (
	"fmt"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// Realms that a foreign KDC invents take bounded memory.
func TestIdentity_StampsBounded(t *testing.T) {
	id := must.OK(NewIdentity(IdentityConfig{Key: "proxy", Secret: PasswordSecret("right")}))(t)
	ticketOf := func(realm string) *Ticket {
		return must.OK(id.ticket(&messages.Credential{Service: messages.Principal{Realm: realm}}))(t)
	}
	own := ticketOf("CORP.EXAMPLE")
	for i := range 3 * maxStamps {
		if ticketOf(fmt.Sprintf("INVENTED%d.EXAMPLE", i)).stamps == nil {
			t.Fatal("a ticket without a clock")
		}
	}
	if n := len(id.stamps); n > maxStamps {
		t.Errorf("%d clocks, want at most %d", n, maxStamps)
	}
	if ticketOf("CORP.EXAMPLE").stamps != own.stamps {
		t.Error("tickets of one realm have two clocks")
	}
}
