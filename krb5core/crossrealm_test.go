package krb5core_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
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

// sayRealm has a KDC say that its tickets are of another realm. key opens the ticket-granting tickets that it is asked with.
func sayRealm(t *testing.T, key exchange.KeySource, realm string) kdctest.Fault {
	must := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	return func(next kdctest.Handler) kdctest.Handler {
		return func(q *kdctest.Question) kdctest.Answer {
			a := next(q)
			rep, err := messages.ParseKDCRep(a.Messages[0])
			if err != nil {
				return a // the error about the clock
			}
			req, err := messages.ParseKDCReq(q.Message)
			must(err)
			value, _ := req.PAData.Find(messages.PA_TGS_REQ)
			apReq, err := messages.ParseAPReq(value)
			must(err)
			long, err := key.Key(exchange.KeyInfo{EType: apReq.Ticket.EncPart.EType})
			must(err)
			plain, err := long.Decrypt(enctype.KEY_USAGE_TICKET, apReq.Ticket.EncPart.Cipher)
			must(err)
			tgt, err := messages.ParseEncTicketPart(plain)
			must(err)
			plain, err = tgt.Key.Decrypt(enctype.KEY_USAGE_TGS_REQ_AUTHENTICATOR, apReq.Authenticator.Cipher)
			must(err)
			auth, err := messages.ParseAuthenticator(plain)
			must(err)
			plain, err = auth.Subkey.Decrypt(enctype.KEY_USAGE_TGS_REP_SUBKEY, rep.EncPart.Cipher)
			must(err)
			part, err := messages.ParseEncKDCRepPart(plain)
			must(err)
			part.SRealm, rep.Ticket.Realm, rep.Ticket.Raw = realm, realm, nil
			rep.EncPart.Cipher, err = auth.Subkey.Encrypt(rand.Reader, enctype.KEY_USAGE_TGS_REP_SUBKEY, part.Marshal())
			must(err)
			return kdctest.Answer{Messages: [][]byte{rep.Marshal()}}
		}
	}
}

func TestForeignKDCDoesNotSetTheClockOfOurOwnRealm(t *testing.T) {
	corp, _ := newRealm()
	partner := kdctest.NewRealm("PARTNER.EXAMPLE")
	kdctest.Trust(corp, partner)
	partner.AddService("HTTP/web.partner.example")
	w := newWorld(t, "right", nil, corp, partner)
	servers := w.finder[realmName]
	w.finder[realmName] = []kdc.Server{servers[0]}
	w.finder["PARTNER.EXAMPLE"] = []kdc.Server{servers[1]}
	tgt := w.login()
	w.kdcs[1].JumpClock(time.Hour)
	w.kdcs[1].Use(sayRealm(t, keytabOf(t, corp, corp.Principal("krbtgt/PARTNER.EXAMPLE")), realmName))
	web := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "web.partner.example"), Realm: "PARTNER.EXAMPLE"}
	cred, err := w.client.ServiceTicket(t.Context(), w.account, tgt, web)
	if err != nil {
		t.Fatal(err)
	}
	if cred.Service.Realm != realmName {
		t.Errorf("the ticket is of %s", cred.Service.Realm)
	}
	if off := w.clock.Offset(realmName); off != 0 {
		t.Errorf("our own realm is %s off, says another realm", off)
	}
	if off := w.clock.Offset("PARTNER.EXAMPLE") - time.Hour; off.Abs() > 5*time.Second {
		t.Errorf("the partner is %s off, want an hour", w.clock.Offset("PARTNER.EXAMPLE"))
	}
}
