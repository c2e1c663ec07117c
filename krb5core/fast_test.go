package krb5core_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func user(name string) messages.Principal {
	return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, name), Realm: realmName}
}

// newProxyWorld has, beside alice, a service account that may impersonate her; the client logs in as that.
func newProxyWorld(t testing.TB, more func(*krb5core.Config)) *world {
	t.Helper()
	realm, _ := newRealm()
	realm.AddUser("machine", "machine-secret")
	realm.AddUser("proxy", "proxy-secret", kdctest.SPN("HTTP/proxy.corp.example"),
		kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo("HTTP/web.corp.example"))
	w := newWorld(t, "", more, realm)
	w.account = krb5core.NewAccount(user("proxy"), password("proxy-secret"), w.clock)
	return w
}

func password(s string) exchange.KeySource {
	return krb5core.PasswordKeys(func() (string, error) { return s, nil })
}

// machineArmor logs the machine in wherever armor is needed.
func machineArmor(c *krb5core.Config) {
	c.Armor = krb5core.KeytabArmor(func() (*krb5core.Account, error) {
		return krb5core.NewAccount(user("machine"), password("machine-secret"), nil), nil
	}, nil)
}

func TestFAST_Delegation(t *testing.T) {
	w := newProxyWorld(t, machineArmor)
	tgt := w.login()
	before := w.kdcs[0].Counts()
	evidence := must.OK(w.client.TicketForUser(t.Context(), w.account, tgt, user("alice")))(t)
	if evidence.Client.String() != "alice@"+realmName || evidence.Service.Name.String() != "proxy" {
		t.Errorf("the ticket to ourselves is %v", evidence)
	}
	cred := must.OK(w.client.TicketOnBehalf(t.Context(), w.account, tgt, evidence, web))(t)
	if cred.Client.String() != "alice@"+realmName || cred.Service.String() != "HTTP/web.corp.example@"+realmName {
		t.Errorf("the ticket on her behalf is %v", cred)
	}
	after := w.kdcs[0].Counts()
	if after.S4U2Self-before.S4U2Self != 1 || after.S4U2Proxy-before.S4U2Proxy != 1 || after.Armored-before.Armored != 2 {
		t.Errorf("before %+v, after %+v, want one of each kind, both armored", before, after)
	}
}

func TestFAST_DelegationRefused(t *testing.T) {
	w := newProxyWorld(t, machineArmor)
	tgt := w.login()
	var unarmored *exchange.UnarmoredError
	_, err := w.client.TicketForUser(t.Context(), w.account, tgt, user("nobody"))
	if e := refusalOf(t, err, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN); errors.As(err, &unarmored) || !e.Confirmed {
		t.Errorf("S4U2Self: %v", err)
	}
	evidence := must.OK(w.client.TicketForUser(t.Context(), w.account, tgt, user("alice")))(t)
	w.realm.AddService("HTTP/secret.corp.example")
	secret := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "secret.corp.example")}
	_, err = w.client.TicketOnBehalf(t.Context(), w.account, tgt, evidence, secret)
	if e := refusalOf(t, err, messages.KDC_ERR_BADOPTION); errors.As(err, &unarmored) || !e.Confirmed {
		t.Errorf("S4U2Proxy: %v", err)
	}
	// The same replies without armor may be forged.
	w.kdcs[0].Use(kdctest.TGS(kdctest.Fail(messages.KDC_ERR_BADOPTION)))
	_, err = w.client.TicketOnBehalf(t.Context(), w.account, tgt, evidence, web)
	if e := refusalOf(t, err, messages.KDC_ERR_BADOPTION); !errors.As(err, &unarmored) || e.Confirmed {
		t.Errorf("unarmored: %v", err)
	}
}

func TestFAST_ClientReferral(t *testing.T) {
	w := newProxyWorld(t, machineArmor)
	w.realm.MapSuffix("people.example", "PEOPLE.EXAMPLE")
	upn := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, "bob@people.example"), Realm: realmName}
	_, err := w.client.Login(t.Context(), krb5core.NewAccount(upn, password("x"), w.clock), nil)
	refusalOf(t, err, messages.KDC_ERR_WRONG_REALM)
	var referral *exchange.ReferralError
	if !errors.As(err, &referral) || referral.Realm != "PEOPLE.EXAMPLE" {
		t.Fatalf("got %v, want the referral", err)
	}
	if text := err.Error(); !strings.Contains(text, "log in with the name that the account has in that realm, and with armor of it") {
		t.Errorf("no remedy in %q", text)
	}
	if n := w.kdcs[0].Counts().Clients["bob@people.example@"+realmName].ASReqPreAuth; n != 0 {
		t.Errorf("%d proofs of the key to a KDC that it is not for", n)
	}
}

func TestFAST_OtherArmorSameBudget(t *testing.T) {
	for _, most := range []int{1, 2, 3} {
		w := newProxyWorld(t, machineArmor)
		w.login() // the armor is held and the salt known
		before, _ := w.preAuths()
		// The KDC's verdicts are kept from us: each proof counts nevertheless.
		w.kdcs[0].Use(kdctest.AS(kdctest.Only(armored, func(next kdctest.Handler) kdctest.Handler {
			fail := kdctest.Fail(messages.KDC_ERR_PREAUTH_FAILED)(next)
			return func(q *kdctest.Question) kdctest.Answer {
				seen, _ := w.preAuths()
				a := next(q)
				if now, _ := w.preAuths(); now == seen {
					return a
				}
				return fail(q)
			}
		})))
		_, err := w.client.Login(t.Context(), w.account, exchange.NewBudget(most))
		if _, ok := errors.AsType[*exchange.UnarmoredError](err); !ok {
			t.Fatalf("got %v, want the reply without armor", err)
		}
		after := w.kdcs[0].Counts().Clients["proxy@"+realmName].ASReqPreAuth
		var e *krb5core.Error
		if errors.As(err, &e); after-1 > most || e.PreAuths != after-1 {
			t.Errorf("%d proofs of %d allowed (before: %d), the error counts %d", after-1, most, before, e.PreAuths)
		}
	}
}

// The proofs of the account that provides the armor are counted as its own.
func TestFAST_ArmorLoginCountedApart(t *testing.T) {
	w := newProxyWorld(t, machineArmor)
	w.login() // the armor is held and the salt known
	proofs := func(name string) int { return w.kdcs[0].Counts().Clients[name+"@"+realmName].ASReqPreAuth }
	proxy, machine := proofs("proxy"), proofs("machine")
	w.realm.Principal("machine").ChangePassword("another", false)
	w.kdcs[0].Use(kdctest.AS(kdctest.Only(armored, func(next kdctest.Handler) kdctest.Handler {
		fail := kdctest.Fail(messages.KDC_ERR_PREAUTH_FAILED)(next)
		return func(q *kdctest.Question) kdctest.Answer {
			next(q) // counts, and its answer is kept from us
			return fail(q)
		}
	})))
	budget := exchange.NewBudget(exchange.MaxProofs)
	_, err := w.client.Login(t.Context(), w.account, budget)
	var e *krb5core.Error
	if !errors.As(err, &e) || e.Op != krb5core.OpArmor {
		t.Fatalf("got %v, want the armor's error", err)
	}
	if sent := proofs("proxy") - proxy; sent != 1 || budget.Sent() != sent {
		t.Errorf("%d proofs of our account, of which the budget counts %d", sent, budget.Sent())
	}
	if sent := proofs("machine") - machine; sent != 2 || e.PreAuths != sent {
		t.Errorf("%d proofs of the armor's account, of which the error counts %d", sent, e.PreAuths)
	}
}

// The account that provides the armor is not refused where its login succeeds and its realm has no way to the realm
// that the armor is for: others use it in other realms.
func TestFAST_NoWayForArmor(t *testing.T) {
	machines := kdctest.NewRealm("MACHINES.EXAMPLE")
	machines.AddUser("machine", "machine-secret")
	corp, _ := newRealm()
	var proofs int
	var refused error
	w := newWorld(t, "right", func(c *krb5core.Config) {
		machine := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "machine"), Realm: "MACHINES.EXAMPLE"}
		c.Armor = krb5core.KeytabArmor(func() (*krb5core.Account, error) {
			return krb5core.NewAccount(machine, password("machine-secret"), nil), nil
		}, func(_ context.Context, login func(*exchange.Budget) error) error {
			budget := exchange.NewBudget(exchange.MaxProofs)
			refused = login(budget)
			proofs += budget.Sent()
			return refused
		})
	}, corp, machines).apart(realmName, "MACHINES.EXAMPLE")
	_, err := w.client.Login(t.Context(), w.account, nil)
	if e := refusalOf(t, err, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN); e.Op != krb5core.OpArmor {
		t.Errorf("got %v, want the armor's error", err)
	}
	if proofs != 1 || refused != nil {
		t.Errorf("%d proofs of the armor's account, which count against it: %v", proofs, refused)
	}
}

// armored reports whether a request has armor.
func armored(q *kdctest.Question) bool {
	req, err := messages.ParseKDCReq(q.Message)
	if err != nil {
		return false
	}
	_, ok := req.PAData.Find(messages.PA_FX_FAST)
	return ok
}
