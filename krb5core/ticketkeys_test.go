package krb5core_test

import (
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// opens reports whether one of the keys opens a ticket for alice's service.
func (w *world) opens(keys []krb5core.TicketKey, spn string) bool {
	w.t.Helper()
	bob := w.named("bob", "bob's")
	tgt := must.OK(w.client.Login(w.t.Context(), bob, nil))(w.t)
	service := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", spn)}
	cred := must.OK(w.client.ServiceTicket(w.t.Context(), bob, tgt, service))(w.t)
	ticket := must.OK(messages.ParseTicket(cred.Ticket))(w.t)
	for _, k := range keys {
		if k.Key.EType() != ticket.EncPart.EType {
			continue
		}
		if _, err := k.Key.Decrypt(enctype.KEY_USAGE_TICKET, ticket.EncPart.Cipher); err == nil {
			return true
		}
	}
	return false
}

func (w *world) named(name, password string) *krb5core.Account {
	w.t.Helper()
	principal := must.OK(krb5core.ParseUser(name+"@"+realmName, krb5core.UserForm{}))(w.t)
	return krb5core.NewAccount(principal, krb5core.PasswordKeys(func() (string, error) { return password, nil }), nil)
}

// The KDC names the salt, whatever it is, and no key is proved.
func TestTicketKeys_Password(t *testing.T) {
	for name, row := range map[string]struct {
		options []kdctest.Option
		tcp     bool
	}{
		"default salt":          {},
		"another salt":          {options: []kdctest.Option{kdctest.Salt("elsewhere")}},
		"another salt, TCP":     {options: []kdctest.Option{kdctest.Salt("elsewhere")}, tcp: true},
		"more iterations":       {options: []kdctest.Option{kdctest.Iterations(8192)}},
		"no pre-authentication": {options: []kdctest.Option{kdctest.With(kdctest.NoPreAuth), kdctest.Salt("elsewhere")}},
		"one type of key":       {options: []kdctest.Option{kdctest.ETypes(enctype.AES128_CTS_HMAC_SHA1_96)}},
	} {
		t.Run(name, func(t *testing.T) {
			realm := kdctest.NewRealm(realmName)
			realm.AddUser("alice", "right", append(row.options, kdctest.SPN("HTTP/alice.corp.example"))...)
			realm.AddUser("bob", "bob's")
			w := newWorld(t, "right", func(c *krb5core.Config) { c.TCPOnly = row.tcp }, realm)
			keys := must.OK(w.client.TicketKeys(t.Context(), w.account))(t)
			if all, _ := w.preAuths(); all != 0 {
				t.Errorf("%d proofs", all)
			}
			if !w.opens(keys, "alice.corp.example") {
				t.Error("no key opens a ticket")
			}
			for _, k := range keys {
				if k.KVNO != 0 || k.Principal.String() != "alice@"+realmName {
					t.Errorf("key of %s, version %d", k.Principal, k.KVNO)
				}
			}
		})
	}
}

func TestTicketKeys_UnknownAccount(t *testing.T) {
	realm := kdctest.NewRealm(realmName)
	realm.AddUser("bob", "bob's")
	w := newWorld(t, "right", nil, realm)
	_, err := w.client.TicketKeys(t.Context(), w.account)
	refusalOf(t, err, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN)
}

func TestTicketKeys_Keytab(t *testing.T) {
	realm := kdctest.NewRealm(realmName)
	one, two := realm.AddService("HTTP/one.corp.example"), realm.AddService("HTTP/two.corp.example")
	realm.AddUser("bob", "bob's")
	one.ChangeKey(true)
	w := newWorld(t, "right", nil, realm)
	file := must.OK(keytab.Parse(must.OK(realm.Keytab(one, two))(t)))(t)
	principal := must.OK(messages.ParsePrincipal("HTTP/one.corp.example@"+realmName, ""))(t)
	account := krb5core.NewAccount(principal, must.OK(krb5core.KeytabKeys(file, principal))(t), nil)
	before := w.kdcs[0].Counts()
	keys := must.OK(w.client.TicketKeys(t.Context(), account))(t)
	if after := w.kdcs[0].Counts(); after.ASReq != before.ASReq {
		t.Error("a keytab's keys took a request to the KDC")
	}
	if len(keys) != 6 || keys[0].KVNO != 2 || keys[0].Principal.String() != principal.String() || account.KeyPrincipal().String() != principal.String() {
		t.Errorf("keys %+v", keys)
	}
	if !w.opens(keys, "one.corp.example") || !w.opens(keys, "two.corp.example") {
		t.Error("tickets do not open")
	}
	if held := must.OK(w.client.TicketKeys(t.Context(), krb5core.NewAccount(principal, nil, nil)))(t); len(held) != 0 {
		t.Errorf("an account without keys has %+v", held)
	}
}
