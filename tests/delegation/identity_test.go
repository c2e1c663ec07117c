package delegation

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

const filesSPN = "HTTP/files.corp.example"

// identityEnv is the proxy's identity without Caddy, in a domain whose clock can be set.
type identityEnv struct {
	*identitytest.Domain
	initiator *negotiate.Initiator
}

// newIdentityEnv makes the domain of newEnv, with a second web server.
func newIdentityEnv(t *testing.T, memory int64, proxy ...kdctest.Option) *identityEnv {
	t.Helper()
	if proxy == nil {
		proxy = append(trusted(), kdctest.DelegateTo(webSPN, filesSPN))
	}
	a := &identityEnv{Domain: identitytest.New(t, identitytest.Config{Password: "secret", Proxy: proxy, Tickets: cache.Config{Memory: memory}})}
	a.Realm.IgnoreCase()
	for _, name := range []string{"alice", "bob", filesSPN} {
		a.Realm.AddService(name)
	}
	// A busy machine is no lost packet.
	settings := a.Settings(kdc.Config{HedgeDelay: time.Minute, ServerTimeout: time.Minute}, 30*time.Second)
	a.initiator = a.Identity(negotiate.PasswordSecret("secret")).Initiator(settings)
	return a
}

// ask gets what tokens in a user's name are made of.
func (a *identityEnv) ask(name, spn string) (negotiate.Grant, error) {
	a.T.Helper()
	target := a.target(name, spn)
	if g, ok := a.initiator.Held(target); ok {
		return g, nil
	}
	if _, err := a.initiator.Resolve(a.T.Context(), target.User, func(*messages.Credential) error { return nil }); err != nil {
		return negotiate.Grant{}, err
	}
	return a.initiator.Grant(a.T.Context(), target, negotiate.DelegateNever)
}

func (a *identityEnv) target(name, spn string) *negotiate.Target {
	a.T.Helper()
	target := identitytest.Target(a.T, spn)
	target.User = must.OK(negotiate.ParseUser(name, krb5core.UserForm{Default: corpRealm}))(a.T)
	return target
}

func (a *identityEnv) wantClient(name, spn, want string) {
	a.T.Helper()
	g, err := a.ask(name, spn)
	if err != nil {
		a.T.Fatal(err)
	}
	if got := g.Ticket.Client(); got != want {
		a.T.Errorf("%s is %s to %s, want %s", name, got, spn, want)
	}
}

func (a *identityEnv) wantCode(name string, want messages.ErrorCode) {
	a.T.Helper()
	_, err := a.ask(name, webSPN)
	if code, ok := krb5core.Code(err); !ok || code != want {
		a.T.Errorf("%s: %v, want %v", name, err, want)
	}
}

func TestEvidence_AllServices(t *testing.T) {
	a := newIdentityEnv(t, 0)
	for range 3 {
		a.wantClient("alice", webSPN, "alice@"+corpRealm)
		a.wantClient("alice", filesSPN, "alice@"+corpRealm)
	}
	wantExchanges(t, a.KDC, 1, 1, 2)
}

func TestUsers_NamesNotFolded(t *testing.T) {
	a := newIdentityEnv(t, 0)
	a.Realm.Principal("alice").Set(kdctest.Alias("alice@mail.example"))
	for range 2 {
		for _, name := range []string{"alice", "Alice", "ALICE", "alice@mail.example", "Alice@mail.example"} {
			a.wantClient(name, webSPN, "alice@"+corpRealm)
		}
	}
	wantExchanges(t, a.KDC, 1, 5, 5) // all of them alice, which is the KDC's to say
}

func TestUsers_RefusalsRemembered(t *testing.T) {
	a := newIdentityEnv(t, 0)
	a.Realm.AddService("carol", kdctest.With(kdctest.NotDelegable))
	a.Realm.AddService("dave", kdctest.With(kdctest.Disabled))
	refusals := map[string]messages.ErrorCode{
		"carol": messages.KDC_ERR_BADOPTION, "dave": messages.KDC_ERR_CLIENT_REVOKED, "nobody": messages.KDC_ERR_C_PRINCIPAL_UNKNOWN,
	}
	refused := func() {
		for name, code := range refusals {
			a.wantCode(name, code)
		}
	}
	refused()
	asked := a.KDC.Counts().TGSReq
	for range 10 {
		refused()
		a.wantClient("alice", webSPN, "alice@"+corpRealm)
	}
	if more := a.KDC.Counts().TGSReq - asked; more != 2 {
		t.Errorf("%d requests to the KDC for what is known, want alice's 2", more)
	}
	a.Clock.Advance(31 * time.Second)
	a.Realm.Principal("dave").Set(kdctest.Without(kdctest.Disabled))
	a.wantClient("dave", webSPN, "dave@"+corpRealm)
	a.wantCode("carol", messages.KDC_ERR_BADOPTION)
	asked = a.KDC.Counts().TGSReq
	a.Clock.Advance(31 * time.Second)
	a.wantCode("carol", messages.KDC_ERR_BADOPTION)
	if more := a.KDC.Counts().TGSReq - asked; more != 0 {
		t.Errorf("%d requests, though the second refusal is remembered for a minute", more)
	}
}

// Whether evidence is forwardable was settled when it was made: an administrator who
// sets protocol transition must not wait until it ends.
func TestEvidence_NewRights(t *testing.T) {
	a := newIdentityEnv(t, 0, kdctest.SPN(proxySPN), kdctest.DelegateTo(webSPN))
	a.wantCode("alice", messages.KDC_ERR_BADOPTION)
	wantExchanges(t, a.KDC, 1, 1, 0)
	a.Proxy.Set(kdctest.With(kdctest.TrustedToAuth))
	a.Clock.Advance(31 * time.Second)
	a.wantClient("alice", webSPN, "alice@"+corpRealm)
	wantExchanges(t, a.KDC, 1, 2, 1)
}

// Evidence is encrypted in our own key.
func TestEvidence_OldKey(t *testing.T) {
	a := newIdentityEnv(t, 0)
	a.wantClient("alice", webSPN, "alice@"+corpRealm)
	a.Proxy.ChangePassword("another secret", false)
	a.Clock.Advance(time.Minute)
	// The ticket-granting ticket is still good, and no login is needed for it.
	a.wantClient("alice", filesSPN, "alice@"+corpRealm)
	if n := a.KDC.Counts(); n.S4U2Self != 2 || n.S4U2Proxy != 2 {
		t.Errorf("%d users' tickets to us, %d to services, want 2 and 2", n.S4U2Self, n.S4U2Proxy)
	}
}

func TestUsers_NewKeyOfTheKDC(t *testing.T) {
	a := newIdentityEnv(t, 0)
	a.wantClient("alice", webSPN, "alice@"+corpRealm)
	a.Realm.Principal("krbtgt/" + corpRealm).ChangeKey(false)
	a.wantClient("bob", webSPN, "bob@"+corpRealm)
	a.wantClient("alice", filesSPN, "alice@"+corpRealm)
	wantExchanges(t, a.KDC, 2, 2, 3)
}

// A user principal name may pass from one account to another.
func TestUsers_NamePassesToAnother(t *testing.T) {
	a := newIdentityEnv(t, 0)
	a.Realm.SetLifetimes(time.Hour, 0)
	dora := a.Realm.AddService("dora", kdctest.Alias("staff@mail.example"))
	a.wantClient("staff@mail.example", webSPN, "dora@"+corpRealm)
	a.Realm.Remove(dora)
	a.Realm.AddService("emma", kdctest.Alias("staff@mail.example"))
	a.wantClient("staff@mail.example", webSPN, "dora@"+corpRealm) // tickets are good until they end
	a.Clock.Advance(61 * time.Minute)
	a.wantClient("staff@mail.example", webSPN, "emma@"+corpRealm)
}

func TestUsers_OnlyActiveRefreshed(t *testing.T) {
	a := newIdentityEnv(t, 0)
	a.Realm.SetLifetimes(10*time.Hour, 0)
	name := func(i int) string { return fmt.Sprintf("user%d", i) }
	for i := range 40 {
		a.Realm.AddService(name(i))
		a.wantClient(name(i), webSPN, name(i)+"@"+corpRealm)
	}
	wantExchanges(t, a.KDC, 1, 40, 40)
	a.Clock.Advance(9 * time.Hour) // behind every refresh point, before every end
	// Two tickets each and the account's own are fewer than the cache refreshes at a time. What
	// finds too many under way is refreshed on a later use, which a ticket to us may not have.
	const active = 3
	caddytest.WaitFor(t, "the active users are refreshed", func() bool {
		a.Clock.Advance(time.Second)
		for i := range active {
			a.wantClient(name(i), webSPN, name(i)+"@"+corpRealm)
		}
		return a.Tickets.Stats().Fetches == 0 && a.KDC.Counts().S4U2Proxy >= 40+active
	})
	if n := a.KDC.Counts(); n.S4U2Proxy != 40+active || n.S4U2Self != 40+active {
		t.Errorf("%d users' tickets to us, %d to services: want those of the active users again", n.S4U2Self, n.S4U2Proxy)
	}
}

func TestUsers_KDCOutage(t *testing.T) {
	a := newIdentityEnv(t, 0)
	a.wantClient("alice", webSPN, "alice@"+corpRealm)
	a.KDC.Stop()
	a.wantClient("alice", webSPN, "alice@"+corpRealm)
	target := a.target("bob", webSPN)
	_, err := a.initiator.Grant(t.Context(), target, negotiate.DelegateNever)
	if _, ok := errors.AsType[*kdc.UnreachableError](err); !ok {
		t.Errorf("bob, without a ticket: %v", err)
	}
}
