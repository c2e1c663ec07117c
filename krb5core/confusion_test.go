package krb5core_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// meddler is an attacker between client and KDC who recorded an impersonation of bob and now passes alice off as bob.
type meddler struct {
	t   *testing.T
	upn bool // alice is asked for by her user principal name

	mu      sync.Mutex
	forUser messages.PAData // of the request for bob
	ticket  messages.Ticket // of the answer to it
}

// recorded is what was noted of the impersonation of bob.
func (m *meddler) recorded() (forUser messages.PAData, ticket messages.Ticket) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.forUser, m.ticket
}

// watch notes the request for bob and the answer.
func (m *meddler) watch(next kdctest.Handler) kdctest.Handler {
	return func(q *kdctest.Question) kdctest.Answer {
		a := next(q)
		m.mu.Lock()
		defer m.mu.Unlock()
		if req, err := messages.ParseKDCReq(q.Message); err == nil {
			value, _ := req.PAData.Find(messages.PA_FOR_USER)
			m.forUser = messages.PAData{Type: messages.PA_FOR_USER, Value: value}
		}
		if rep, err := messages.ParseKDCRep(a.Messages[0]); err == nil {
			m.ticket = rep.Ticket
		}
		return a
	}
}

// swapTicket sends, before the true answer, one with bob's ticket in it: what is encrypted does not cover that.
func (m *meddler) swapTicket(next kdctest.Handler) kdctest.Handler {
	return func(q *kdctest.Question) kdctest.Answer {
		a := next(q)
		rep, err := messages.ParseKDCRep(a.Messages[0])
		if err != nil {
			m.t.Error(err)
			return a
		}
		_, rep.Ticket = m.recorded()
		a.Messages = append([][]byte{rep.Marshal()}, a.Messages...)
		return a
	}
}

// swapUser has the KDC answer to the old PA-FOR-USER, which nothing ties to a request, puts alice's name to the answer,
// and sends that before the true one.
func (m *meddler) swapUser(next kdctest.Handler) kdctest.Handler {
	return func(q *kdctest.Question) kdctest.Answer {
		a := next(q)
		req, err := messages.ParseKDCReq(q.Message)
		if err != nil {
			m.t.Error(err)
			return a
		}
		proof, _ := req.PAData.Find(messages.PA_TGS_REQ)
		forUser, _ := m.recorded()
		req.PAData = messages.MethodData{{Type: messages.PA_TGS_REQ, Value: proof}, forUser}
		changed := *q
		changed.Message = req.Marshal()
		rep, err := messages.ParseKDCRep(next(&changed).Messages[0])
		if err != nil {
			m.t.Error(err)
			return a
		}
		if !m.upn { // for a UPN any name is right
			rep.CName = user("alice").Name
		}
		a.Messages = append([][]byte{rep.Marshal()}, a.Messages...)
		return a
	}
}

func TestS4U_SubstitutedUser(t *testing.T) {
	for name, meddle := range map[string]func(*meddler) kdctest.Fault{
		"another's ticket":      func(m *meddler) kdctest.Fault { return m.swapTicket },
		"another's PA-FOR-USER": func(m *meddler) kdctest.Fault { return m.swapUser },
	} {
		for _, of := range []string{"password", "keytab", "password without a hint", "password, for a UPN"} {
			t.Run(name+", keys of a "+of, func(t *testing.T) {
				w := newProxyWorld(t, nil)
				w.realm.AddUser("bob", "bobs")
				proxy := w.realm.Principal("proxy")
				keys := keytabOf(t, w.realm, proxy)
				if of == "keytab" {
					w.account = krb5core.NewAccount(user("proxy"), keys, w.clock)
				}
				tgt := w.login()
				if of == "password without a hint" {
					w.account.Forget()
				}
				m, alice := &meddler{t: t}, user("alice")
				if m.upn = of == "password, for a UPN"; m.upn {
					alice.Name = messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, "alice@corp.example")
				}
				w.kdcs[0].Use(kdctest.TGS(m.watch))
				must.OK(w.client.TicketForUser(t.Context(), w.account, tgt, user("bob")))(t)
				w.kdcs[0].ClearFaults()
				w.kdcs[0].Use(kdctest.UDP(kdctest.TGS(meddle(m))))
				evidence := must.OK(w.client.TicketForUser(t.Context(), w.account, tgt, alice))(t)
				ticket := must.OK(messages.ParseTicket(evidence.Ticket))(t)
				key := must.OK(keys.Key(exchange.KeyInfo{EType: ticket.EncPart.EType}))(t)
				plain := must.OK(key.Decrypt(enctype.KEY_USAGE_TICKET, ticket.EncPart.Cipher))(t)
				part := must.OK(messages.ParseEncTicketPart(plain))(t)
				if part.CName.String() != "alice" {
					t.Errorf("alice goes by the ticket of %s", part.CName)
				}
			})
		}
	}
}

// Where no key of ours opens the ticket, only FAST ties it to the answer.
func TestS4U_SubstitutedUserUnderFAST(t *testing.T) {
	w := newProxyWorld(t, machineArmor)
	w.realm.AddUser("bob", "bobs")
	tgt := w.login()
	account := krb5core.NewAccount(user("proxy"), nil, w.clock)
	m := &meddler{t: t}
	w.kdcs[0].Use(kdctest.TGS(m.watch))
	must.OK(w.client.TicketForUser(t.Context(), account, tgt, user("bob")))(t)
	w.kdcs[0].ClearFaults()
	w.kdcs[0].Use(kdctest.UDP(kdctest.TGS(m.swapTicket)))
	evidence := must.OK(w.client.TicketForUser(t.Context(), account, tgt, user("alice")))(t)
	ticket := must.OK(messages.ParseTicket(evidence.Ticket))(t)
	if _, bobs := m.recorded(); bytes.Equal(ticket.EncPart.Cipher, bobs.EncPart.Cipher) {
		t.Error("alice goes by the ticket of bob")
	}
}

func keytabOf(t *testing.T, realm *kdctest.Realm, p *kdctest.Principal) exchange.KeySource {
	t.Helper()
	b := must.OK(realm.Keytab(p))(t)
	file := must.OK(keytab.Parse(b))(t)
	return must.OK(krb5core.KeytabKeys(file, file.Entries[0].Principal))(t)
}

func TestS4U_KeysThatDoNotFit(t *testing.T) {
	w := newProxyWorld(t, nil)
	tgt := w.login()
	w.realm.Principal("proxy").ChangePassword("new-secret", true)
	w.account = krb5core.NewAccount(user("proxy"), password("proxy-secret"), w.clock)
	for name, a := range map[string]*krb5core.Account{
		"older": w.account,
		"none":  krb5core.NewAccount(user("proxy"), nil, w.clock),
	} {
		if _, err := w.client.TicketForUser(t.Context(), a, tgt, user("alice")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// strip takes PA-S4U-X509-USER, which only the KDC misses, out of every request. With an old PA-FOR-USER it asks for that
// user.
func (m *meddler) strip(next kdctest.Handler) kdctest.Handler {
	return func(q *kdctest.Question) kdctest.Answer {
		req, err := messages.ParseKDCReq(q.Message)
		if err != nil {
			m.t.Error(err)
			return next(q)
		}
		proof, _ := req.PAData.Find(messages.PA_TGS_REQ)
		value, _ := req.PAData.Find(messages.PA_FOR_USER)
		user := messages.PAData{Type: messages.PA_FOR_USER, Value: value}
		if forUser, _ := m.recorded(); forUser.Value != nil {
			user = forUser
		}
		req.PAData = messages.MethodData{{Type: messages.PA_TGS_REQ, Value: proof}, user}
		changed := *q
		changed.Message = req.Marshal()
		return next(&changed)
	}
}

// An attacker on the network from the first request on has the KDC confirm no user; nothing that was remembered helps.
func TestS4U_NeverConfirmed(t *testing.T) {
	upn := user("alice")
	upn.Name = messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, "Alice@corp.example")
	for name, c := range map[string]struct {
		user             messages.Principal
		keys, pacs, swap bool
		good             bool
	}{
		"a name, and the ticket opens":           {user("alice"), true, false, false, true},
		"a name, and no key":                     {user("alice"), false, true, false, false},
		"a UPN, which the PAC has":               {upn, true, true, false, true},
		"a UPN, without a PAC":                   {upn, true, false, false, false},
		"a UPN, and no key":                      {upn, false, true, false, false},
		"a UPN, answered for bob":                {upn, true, true, true, false},
		"a UPN, answered for bob, without a PAC": {upn, true, false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newProxyWorld(t, func(c *krb5core.Config) { c.TCPOnly = true })
			w.realm.IgnoreCase()
			w.realm.AddUser("bob", "bobs", kdctest.Alias("bob@corp.example"))
			w.alice.Set(kdctest.Alias("alice@corp.example"))
			if c.pacs {
				w.realm.IssuePACs()
			}
			tgt := w.login()
			if !c.keys {
				w.account = krb5core.NewAccount(user("proxy"), nil, w.clock)
			}
			m := &meddler{t: t}
			if c.swap {
				w.kdcs[0].Use(kdctest.TGS(m.watch))
				must.OK(w.client.TicketForUser(t.Context(), w.account, tgt, user("bob")))(t)
				w.kdcs[0].ClearFaults()
			}
			w.kdcs[0].Use(kdctest.TGS(m.strip))
			evidence, err := w.client.TicketForUser(t.Context(), w.account, tgt, c.user)
			if c.good {
				must.Do(t, err)
				want := messages.Account{}
				if c.pacs {
					want.Name = "alice"
				}
				if evidence.Client.Name.String() != "alice" || *evidence.Account != want {
					t.Errorf("ticket of %s, account %v, want %v", evidence.Client, evidence.Account, want)
				}
			} else if !errors.Is(err, exchange.ErrUserNotProven) {
				t.Errorf("ticket of %v, error %v", evidence, err)
			}
		})
	}
}

// The account that an evidence ticket names is that of the tickets for services, too.
func TestTicketOnBehalf_Account(t *testing.T) {
	w := newProxyWorld(t, nil)
	w.realm.IssuePACs()
	w.realm.AddUser("pc1$", "pc1")
	tgt := w.login()
	for name, want := range map[string]messages.Account{"alice": {Name: "alice"}, "pc1$": {Name: "pc1$", Machine: true}} {
		evidence := must.OK(w.client.TicketForUser(t.Context(), w.account, tgt, user(name)))(t)
		cred := must.OK(w.client.TicketOnBehalf(t.Context(), w.account, tgt, evidence, web))(t)
		if evidence.Account == nil || *evidence.Account != want || cred.Account == nil || *cred.Account != want {
			t.Errorf("%s: account %v, then %v, want %v", name, evidence.Account, cred.Account, want)
		}
	}
}
