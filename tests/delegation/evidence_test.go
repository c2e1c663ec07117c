package delegation

import (
	"errors"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// evidenceEnv is a domain whose users sign in to the proxy with their tickets. The proxy's account
// has no protocol transition: it cannot impersonate anyone else.
type evidenceEnv struct {
	*identitytest.Domain
	settings  *negotiate.Settings
	initiator *negotiate.Initiator
}

func newEvidenceEnv(t *testing.T) *evidenceEnv {
	t.Helper()
	proxy := []kdctest.Option{kdctest.SPN(proxySPN), kdctest.DelegateTo(webSPN, filesSPN)}
	e := &evidenceEnv{Domain: identitytest.New(t, identitytest.Config{Password: "secret", Proxy: proxy})}
	e.Realm.AddService(filesSPN)
	for _, name := range []string{"alice", "bob"} {
		e.Realm.AddUser(name, "x")
	}
	e.settings = e.Settings(kdc.Config{HedgeDelay: time.Minute, ServerTimeout: time.Minute}, 30*time.Second)
	e.initiator = e.Identity(negotiate.PasswordSecret("secret")).Initiator(e.settings)
	return e
}

// signIn returns the ticket that a user has for the proxy after a login.
func (e *evidenceEnv) signIn(name string) *messages.Credential {
	e.T.Helper()
	principal := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, name), Realm: corpRealm}
	keys := krb5core.PasswordKeys(func() (string, error) { return "x", nil })
	user := krb5core.NewAccount(principal, keys, krb5core.NewClock(e.Clock.Now))
	tgt := must.OK(e.settings.Client.Login(e.T.Context(), user, exchange.NewBudget(1)))(e.T)
	service := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "proxy.corp.example"), Realm: corpRealm}
	ticket := must.OK(e.settings.Client.ServiceTicket(e.T.Context(), user, tgt, service))(e.T)
	ticket.Account = new(messages.Account) // as an acceptor has it that opened the ticket
	return ticket
}

func signedInTarget(t *testing.T, spn string, ticket *messages.Credential, account string) *negotiate.Target {
	t.Helper()
	target := identitytest.Target(t, spn)
	target.User = negotiate.SignedIn(ticket, account)
	return target
}

func (e *evidenceEnv) grant(spn string, ticket *messages.Credential) (negotiate.Grant, error) {
	e.T.Helper()
	return e.initiator.GrantUser(e.T.Context(), signedInTarget(e.T, spn, ticket, ""), func(*messages.Credential) error { return nil })
}

// wantUser fails unless tokens for the service are the ticket's user's, from where they are expected.
func (e *evidenceEnv) wantUser(spn string, ticket *messages.Credential, source cache.Source) negotiate.Grant {
	e.T.Helper()
	g := must.OK(e.grant(spn, ticket))(e.T)
	if g.Ticket.Client() != ticket.Client.String() || g.Source != source {
		e.T.Errorf("%s is %s to %s, from %s, want %s", ticket.Client, g.Ticket.Client(), spn, g.Source, source)
	}
	return g
}

// The user's own ticket is all that is needed: neither protocol transition nor S4U2Self.
func TestClientTicket_Users(t *testing.T) {
	e := newEvidenceEnv(t)
	alice, bob := e.signIn("alice"), e.signIn("bob")
	e.KDC.ResetCounts()
	for _, spn := range []string{webSPN, filesSPN} {
		e.wantUser(spn, alice, cache.Fetched)
		e.wantUser(spn, bob, cache.Fetched)
		e.wantUser(spn, alice, cache.Cached)
		e.wantUser(spn, bob, cache.Cached)
	}
	wantExchanges(t, e.KDC, 1, 0, 4)
}

// What the account may do by protocol transition is not what the user's ticket permits, nor the
// other way round, so they do not share tickets. A name that has passed to another account is another
// user.
func TestClientTicket_Keys(t *testing.T) {
	e := newEvidenceEnv(t)
	e.Proxy.Set(kdctest.With(kdctest.TrustedToAuth))
	alice := e.signIn("alice")
	e.KDC.ResetCounts()
	admit := func(*messages.Credential) error { return nil }
	byName := signedInTarget(t, webSPN, alice, "")
	byName.User = must.OK(negotiate.ParseUser("alice", krb5core.UserForm{Default: corpRealm}))(t)
	weaker := *alice
	weaker.Flags &^= messages.TKT_FLG_FORWARDABLE
	for i, target := range []*negotiate.Target{
		byName, signedInTarget(t, webSPN, alice, ""), signedInTarget(t, webSPN, alice, "S-1-5-21-1-2-3-1001"),
		signedInTarget(t, webSPN, alice, "S-1-5-21-1-2-3-1002"), signedInTarget(t, webSPN, &weaker, ""),
	} {
		for _, source := range []cache.Source{cache.Fetched, cache.Cached} {
			g := must.OK(e.initiator.GrantUser(t.Context(), target, admit))(t)
			if g.Source != source || g.Ticket.Client() != "alice@"+corpRealm {
				t.Errorf("target %d: %s from %s, want %s", i, g.Ticket.Client(), g.Source, source)
			}
		}
	}
	wantExchanges(t, e.KDC, 1, 1, 5)
}

func TestClientTicket_Refused(t *testing.T) {
	e := newEvidenceEnv(t)
	e.Realm.AddUser("carol", "x", kdctest.With(kdctest.NotDelegable))
	for name, c := range map[string]struct {
		user, spn   string
		forwardable bool
	}{
		"sensitive user":          {"carol", webSPN, false},
		"service not on the list": {"alice", "HTTP/other.corp.example", true},
	} {
		if c.spn != webSPN {
			e.Realm.AddService(c.spn)
		}
		ticket := e.signIn(c.user)
		asked := 0
		for i := range 3 {
			_, err := e.grant(c.spn, ticket)
			refused, ok := errors.AsType[*negotiate.EvidenceError](err)
			if code, _ := krb5core.Code(err); !ok || refused.Forwardable != c.forwardable || code != messages.KDC_ERR_BADOPTION {
				t.Errorf("%s: %v", name, err)
			}
			if i == 0 {
				asked = e.KDC.Counts().TGSReq
			}
		}
		if n := e.KDC.Counts().TGSReq - asked; n != 0 {
			t.Errorf("%s: %d more requests to the KDC, though the refusal is remembered", name, n)
		}
	}
}

// A user who gets a forwardable ticket after a refusal need not wait until it is forgotten.
func TestClientTicket_ForwardableAfterRefusal(t *testing.T) {
	e := newEvidenceEnv(t)
	carol := e.Realm.AddUser("carol", "x", kdctest.With(kdctest.NotDelegable))
	if _, err := e.grant(webSPN, e.signIn("carol")); err == nil {
		t.Fatal("a sensitive user is impersonated")
	}
	carol.Set(kdctest.Without(kdctest.NotDelegable))
	e.wantUser(webSPN, e.signIn("carol"), cache.Fetched)
}

// Tickets to services end with the one that the user signed in with, and stay in use until then
// when the user signs in again.
func TestClientTicket_EndsWithTheUsers(t *testing.T) {
	e := newEvidenceEnv(t)
	first := e.signIn("alice")
	short := *first
	short.EndTime = e.Clock.Now().Add(time.Hour).Truncate(time.Second)
	g := e.wantUser(webSPN, &short, cache.Fetched)
	if end := g.Ticket.Credential().EndTime; !end.Equal(short.EndTime) {
		t.Errorf("the ticket ends at %s, the user's at %s", end, short.EndTime)
	}
	e.Clock.Advance(30 * time.Minute)
	second := e.signIn("alice")
	e.KDC.ResetCounts()
	e.wantUser(webSPN, second, cache.Cached)
	e.Clock.Advance(31 * time.Minute)
	if _, err := e.grant(webSPN, &short); !errors.Is(err, negotiate.ErrTicketGone) {
		t.Errorf("after its end: %v", err)
	}
	wantExchanges(t, e.KDC, 0, 0, 0)
	e.wantUser(webSPN, second, cache.Fetched)
	wantExchanges(t, e.KDC, 0, 0, 1)
}

// Near the end a new ticket is fetched in the background only if the user has one that ends later.
func TestClientTicket_Refresh(t *testing.T) {
	e := newEvidenceEnv(t)
	e.Realm.SetLifetimes(10*time.Hour, 0)
	first := e.signIn("alice")
	e.wantUser(webSPN, first, cache.Fetched)
	e.Clock.Advance(9 * time.Hour)
	e.KDC.ResetCounts()
	for range 20 {
		e.wantUser(webSPN, first, cache.Cached)
		e.Clock.Advance(time.Second)
		caddytest.WaitFor(t, "nothing is fetched", func() bool { return e.Tickets.Stats().Fetches == 0 })
	}
	if n := e.KDC.Counts(); n.TGSReq != 0 || n.ASReq != 0 {
		t.Errorf("%d requests for tickets and %d for logins that would change nothing", n.TGSReq, n.ASReq)
	}
	second := e.signIn("alice")
	e.KDC.ResetCounts()
	caddytest.WaitFor(t, "a ticket that ends later is held", func() bool {
		e.Clock.Advance(time.Second)
		return e.wantUser(webSPN, second, cache.Cached).Ticket.Credential().EndTime.After(first.EndTime)
	})
	if n := e.KDC.Counts().S4U2Proxy; n != 1 {
		t.Errorf("%d tickets, want 1", n)
	}
}

// Rules apply to the ticket of each request, also while one for the service is held.
func TestClientTicket_Rules(t *testing.T) {
	e := newEvidenceEnv(t)
	alice := e.signIn("alice")
	target := signedInTarget(t, webSPN, alice, "")
	if _, err := e.initiator.GrantUser(t.Context(), target, func(*messages.Credential) error { return negotiate.ErrUserDenied }); !errors.Is(err, negotiate.ErrUserDenied) {
		t.Errorf("denied before: %v", err)
	}
	if n := e.KDC.Counts().S4U2Proxy; n != 0 {
		t.Error("a ticket was requested for a user who is denied")
	}
	e.wantUser(webSPN, alice, cache.Fetched)
	other := *alice
	other.Account = &messages.Account{Name: "administrator"}
	admit := func(cred *messages.Credential) error {
		if cred.Account.Name == "administrator" {
			return negotiate.ErrUserDenied
		}
		return nil
	}
	if _, err := e.initiator.GrantUser(t.Context(), signedInTarget(t, webSPN, &other, ""), admit); !errors.Is(err, negotiate.ErrUserDenied) {
		t.Errorf("with a ticket that names another account: %v", err)
	}
	must.OK(e.initiator.GrantUser(t.Context(), target, admit))(t)
}

// The KDC opens the user's ticket by our account's key, which may have changed since.
func TestClientTicket_OldKey(t *testing.T) {
	e := newEvidenceEnv(t)
	alice := e.signIn("alice")
	e.wantUser(filesSPN, alice, cache.Fetched)
	e.Proxy.ChangePassword("secret", false)
	_, err := e.grant(webSPN, alice)
	if _, ok := errors.AsType[*negotiate.EvidenceError](err); !ok {
		t.Errorf("with a ticket under the old key: %v", err)
	}
	e.wantUser(filesSPN, alice, cache.Cached)
	e.Clock.Advance(31 * time.Second)
	e.wantUser(webSPN, e.signIn("alice"), cache.Fetched)
}
