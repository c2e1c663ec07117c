package krb5core_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// apart gives each of the realms one KDC, in order.
func (w *world) apart(realms ...string) *world {
	servers := w.finder[realmName]
	for i, realm := range realms {
		w.finder[realm] = servers[i : i+1]
	}
	return w
}

// A realm that is trusted for its own services may refer to a third one, by a ticket whose session key it knows. What
// goes to the third realm by another way must not be taken that way afterwards.
func TestCrossRealm_ReferralsNotReused(t *testing.T) {
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
	tgt := w.apart(realmName, "PARTNER.EXAMPLE", "THIRD.EXAMPLE").login()

	http := func(host, realm string) messages.Principal {
		return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", host), Realm: realm}
	}
	lure := http("lure.partner.example", "")
	must.OK(w.client.ServiceTicket(t.Context(), w.account, tgt, lure))(t)
	for range 2 {
		must.OK(w.client.ServiceTicket(t.Context(), w.account, tgt, http("web.third.example", "THIRD.EXAMPLE")))(t)
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
	check := func(err error) {
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
			check(err)
			value, _ := req.PAData.Find(messages.PA_TGS_REQ)
			apReq, err := messages.ParseAPReq(value)
			check(err)
			long, err := key.Key(exchange.KeyInfo{EType: apReq.Ticket.EncPart.EType})
			check(err)
			plain, err := long.Decrypt(enctype.KEY_USAGE_TICKET, apReq.Ticket.EncPart.Cipher)
			check(err)
			tgt, err := messages.ParseEncTicketPart(plain)
			check(err)
			plain, err = tgt.Key.Decrypt(enctype.KEY_USAGE_TGS_REQ_AUTHENTICATOR, apReq.Authenticator.Cipher)
			check(err)
			auth, err := messages.ParseAuthenticator(plain)
			check(err)
			plain, err = auth.Subkey.Decrypt(enctype.KEY_USAGE_TGS_REP_SUBKEY, rep.EncPart.Cipher)
			check(err)
			part, err := messages.ParseEncKDCRepPart(plain)
			check(err)
			part.SRealm, rep.Ticket.Realm, rep.Ticket.Raw = realm, realm, nil
			rep.EncPart.Cipher, err = auth.Subkey.Encrypt(rand.Reader, enctype.KEY_USAGE_TGS_REP_SUBKEY, part.Marshal())
			check(err)
			return kdctest.Answer{Messages: [][]byte{rep.Marshal()}}
		}
	}
}

func TestCrossRealm_OwnClock(t *testing.T) {
	corp, _ := newRealm()
	partner := kdctest.NewRealm("PARTNER.EXAMPLE")
	kdctest.Trust(corp, partner)
	partner.AddService("HTTP/web.partner.example")
	w := newWorld(t, "right", nil, corp, partner)
	tgt := w.apart(realmName, "PARTNER.EXAMPLE").login()
	w.kdcs[1].JumpClock(time.Hour)
	w.kdcs[1].Use(sayRealm(t, keytabOf(t, corp, corp.Principal("krbtgt/PARTNER.EXAMPLE")), realmName))
	web := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "web.partner.example"), Realm: "PARTNER.EXAMPLE"}
	cred := must.OK(w.client.ServiceTicket(t.Context(), w.account, tgt, web))(t)
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
