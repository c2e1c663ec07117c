package krb5core_test

import (
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// A realm that is trusted for its own services may refer to a third one, by a ticket whose session key it knows. What
// goes to the third realm by another way must not be taken that way afterwards.
func TestReferralsOfOneRealmDoNotBecomeTheWayToAnother(t *testing.T) {
	corp, _ := newRealm()
	partner, third := kdctest.NewRealm("PARTNER.EXAMPLE"), kdctest.NewRealm("THIRD.EXAMPLE")
	kdctest.Trust(corp, partner)
	kdctest.Trust(partner, third)
	kdctest.Trust(corp, third)
	corp.MapDomain(".partner.example", "PARTNER.EXAMPLE")
	partner.MapDomain("lure.partner.example", "THIRD.EXAMPLE")
	third.AddService("HTTP/lure.partner.example")
	third.AddService("HTTP/web.third.example")
	w := newWorld(t, "right", nil, corp, partner, third)
	servers := w.finder[realmName]
	w.finder[realmName] = []kdc.Server{servers[0]}
	w.finder["PARTNER.EXAMPLE"] = []kdc.Server{servers[1]}
	w.finder["THIRD.EXAMPLE"] = []kdc.Server{servers[2]}
	tgt := w.login()

	http := func(host, realm string) messages.Principal {
		return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", host), Realm: realm}
	}
	lure := http("lure.partner.example", "")
	if _, err := w.client.ServiceTicket(t.Context(), w.account, tgt, lure); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := w.client.ServiceTicket(t.Context(), w.account, tgt, http("web.third.example", "THIRD.EXAMPLE")); err != nil {
			t.Fatal(err)
		}
	}
	// One for the way there, kept for the second time.
	if n := w.kdcs[0].Counts().Services["krbtgt/THIRD.EXAMPLE@"+realmName]; n != 1 {
		t.Errorf("our own realm was asked for the way %d times, want once", n)
	}
	if n := w.kdcs[1].Counts().TGSReq; n != 1 {
		t.Errorf("the partner was asked %d times, want for its own service alone", n)
	}
}
