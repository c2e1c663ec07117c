package krb5core_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
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

// A KDC sets the clock of its own realm only, whatever realm it says that its ticket is of.
func TestCrossRealm_ForeignClock(t *testing.T) {
	const partnerName, thirdName = "PARTNER.EXAMPLE", "THIRD.EXAMPLE"
	for _, claimed := range []string{realmName, thirdName} {
		t.Run(claimed, func(t *testing.T) {
			corp, _ := newRealm()
			partner, third := kdctest.NewRealm(partnerName), kdctest.NewRealm(thirdName)
			kdctest.Trust(corp, partner)
			kdctest.Trust(corp, third)
			partner.AddService("HTTP/web.partner.example")
			third.AddService("HTTP/web.third.example")
			w := newWorld(t, "right", nil, corp, partner, third)
			tgt := w.apart(realmName, partnerName, thirdName).login()
			w.kdcs[1].JumpClock(time.Hour)
			w.kdcs[1].Use(sayRealm(t, keytabOf(t, corp, corp.Principal("krbtgt/"+partnerName)), claimed))
			http := func(host, realm string) messages.Principal {
				return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", host), Realm: realm}
			}
			cred := must.OK(w.client.ServiceTicket(t.Context(), w.account, tgt, http("web.partner.example", partnerName)))(t)
			if cred.Service.Realm != claimed {
				t.Errorf("the ticket is of %s", cred.Service.Realm)
			}
			if off := w.clock.Offset(claimed); off != 0 {
				t.Errorf("%s is %s off, says another realm", claimed, off)
			}
			if off := w.clock.Offset(partnerName); (off - time.Hour).Abs() > 5*time.Second {
				t.Errorf("the partner is %s off, want an hour", off)
			}
			// A realm's own KDC still does.
			w.kdcs[2].JumpClock(2 * time.Hour)
			must.OK(w.client.ServiceTicket(t.Context(), w.account, tgt, http("web.third.example", thirdName)))(t)
			if off := w.clock.Offset(thirdName); (off - 2*time.Hour).Abs() > 5*time.Second {
				t.Errorf("the third realm is %s off, want two hours", off)
			}
		})
	}
}

// The same goes for a login that another realm's KDC answers.
func TestLogin_ReferredClock(t *testing.T) {
	const people = "PEOPLE.EXAMPLE"
	corp, _ := newRealm()
	other := kdctest.NewRealm(people)
	other.AddUser("bob", "right")
	for _, realm := range []*kdctest.Realm{corp, other} {
		realm.MapSuffix("people.example", people)
	}
	w := newWorld(t, "right", func(c *krb5core.Config) { c.Realms = configured{people} }, corp, other).apart(realmName, people)
	w.kdcs[1].JumpClock(time.Hour)
	upn := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, "bob@people.example"), Realm: realmName}
	must.OK(w.client.Login(t.Context(), krb5core.NewAccount(upn, password("right"), w.clock), nil))(t)
	if off := w.clock.Offset(realmName); off != 0 {
		t.Errorf("our own realm is %s off, says another realm", off)
	}
	if off := w.clock.Offset(people); (off - time.Hour).Abs() > 5*time.Second {
		t.Errorf("the realm that answered is %s off, want an hour", off)
	}
}

// A KDC that a login was referred to sets its own realm's clock, whatever realm it says that its ticket is of.
func TestLogin_ForeignClock(t *testing.T) {
	const people, third = "PEOPLE.EXAMPLE", "THIRD.EXAMPLE"
	corp, _ := newRealm()
	other := kdctest.NewRealm(people)
	keys := keytabOf(t, other, other.AddUser("bob", "right"))
	for _, realm := range []*kdctest.Realm{corp, other} {
		realm.MapSuffix("people.example", people)
	}
	w := newWorld(t, "right", func(c *krb5core.Config) { c.Realms = configured{people} }, corp, other).apart(realmName, people)
	w.kdcs[1].JumpClock(time.Hour)
	w.kdcs[1].Use(kdctest.AS(func(next kdctest.Handler) kdctest.Handler {
		return func(q *kdctest.Question) kdctest.Answer {
			a := next(q)
			rep, err := messages.ParseKDCRep(a.Messages[0])
			if err != nil {
				return a // an error
			}
			key, err := keys.Key(exchange.KeyInfo{EType: rep.EncPart.EType})
			if err != nil {
				t.Error(err)
				return a
			}
			plain, err := key.Decrypt(enctype.KEY_USAGE_AS_REP, rep.EncPart.Cipher)
			if err != nil {
				t.Error(err)
				return a
			}
			part, err := messages.ParseEncKDCRepPart(plain)
			if err != nil {
				t.Error(err)
				return a
			}
			part.SName, part.SRealm = messages.TGSName(third), third
			rep.Ticket.SName, rep.Ticket.Realm, rep.Ticket.Raw = part.SName, third, nil
			if rep.EncPart.Cipher, err = key.Encrypt(rand.Reader, enctype.KEY_USAGE_AS_REP, part.Marshal()); err != nil {
				t.Error(err)
			}
			return kdctest.Answer{Messages: [][]byte{rep.Marshal()}}
		}
	}))
	upn := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, "bob@people.example"), Realm: realmName}
	cred := must.OK(w.client.Login(t.Context(), krb5core.NewAccount(upn, password("right"), w.clock), nil))(t)
	if cred.Service.Realm != third {
		t.Errorf("the ticket is of %s", cred.Service.Realm)
	}
	if off := w.clock.Offset(third); off != 0 {
		t.Errorf("%s is %s off, says another realm", third, off)
	}
	if off := w.clock.Offset(people); (off - time.Hour).Abs() > 5*time.Second {
		t.Errorf("the realm that answered is %s off, want an hour", off)
	}
}
