package delegation

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// clock is everybody's.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// agent is the proxy's identity, without a proxy, in a domain whose clock can be set.
type agent struct {
	t        *testing.T
	clock    clock
	realm    *kdctest.Realm
	kdc      *kdctest.KDC
	proxy    *kdctest.Principal
	tickets  *negotiate.Tickets
	identity *negotiate.Identity
	settings *negotiate.Settings
}

// newAgent makes the domain of newCorp, with a second web server.
func newAgent(t *testing.T, memory int64, proxy ...kdctest.Option) *agent {
	t.Helper()
	a := &agent{t: t, realm: kdctest.NewRealm(corpRealm)}
	a.realm.IgnoreCase()
	if proxy == nil {
		proxy = append(trusted(), kdctest.DelegateTo(webSPN, "HTTP/files.corp.example"))
	}
	a.proxy = a.realm.AddUser("svc-proxy", "secret", proxy...)
	for _, name := range []string{"alice", "bob", webSPN, "HTTP/files.corp.example"} {
		a.realm.AddService(name)
	}
	a.kdc = startKDC(t, kdctest.Config{Realms: []*kdctest.Realm{a.realm}, Now: a.clock.now})
	server, err := kdc.ParseServer(a.kdc.Addr())
	if err != nil {
		t.Fatal(err)
	}
	finder := kdc.Static{corpRealm: {server}}
	// A busy machine is no lost packet.
	sender, err := kdc.NewSender(kdc.Config{Finder: finder, HedgeDelay: time.Minute, ServerTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	client, err := krb5core.NewClient(krb5core.Config{Sender: sender, Finder: finder, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	a.tickets = cache.New[*negotiate.Ticket](cache.Config{Memory: memory, Now: a.clock.now})
	t.Cleanup(a.tickets.Close)
	principal := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "svc-proxy"), Realm: corpRealm}
	a.identity, err = negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: "svc-proxy", Principal: principal, Tickets: a.tickets, Now: a.clock.now,
		Secret: negotiate.PasswordSecret("secret"),
	})
	if err != nil {
		t.Fatal(err)
	}
	a.settings = negotiate.NewSettings("svc-proxy", client)
	return a
}

// ask gets what tokens in a user's name are made of.
func (a *agent) ask(name, spn string) (negotiate.Grant, error) {
	a.t.Helper()
	target := a.target(name, spn)
	if g, ok := a.identity.Held(a.settings, &target); ok {
		return g, nil
	}
	if _, err := a.identity.Resolve(a.t.Context(), a.settings, target.User); err != nil {
		return negotiate.Grant{}, err
	}
	return a.identity.Grant(a.t.Context(), a.settings, &target, negotiate.DelegateNever)
}

func (a *agent) target(name, spn string) negotiate.Target {
	a.t.Helper()
	user, err := negotiate.ParseUser(name, krb5core.UserForm{Default: corpRealm})
	if err != nil {
		a.t.Fatal(err)
	}
	service, err := negotiate.ParseSPN(spn)
	if err != nil {
		a.t.Fatal(err)
	}
	return negotiate.Target{SPN: service, User: user}
}

func (a *agent) wantClient(name, spn, want string) {
	a.t.Helper()
	g, err := a.ask(name, spn)
	if err != nil {
		a.t.Fatal(err)
	}
	if got := g.Ticket.Client(); got != want {
		a.t.Errorf("%s is %s to %s, want %s", name, got, spn, want)
	}
}

func (a *agent) wantCode(name string, want messages.ErrorCode) {
	a.t.Helper()
	_, err := a.ask(name, webSPN)
	if code, ok := krb5core.Code(err); !ok || code != want {
		a.t.Errorf("%s: %v, want %v", name, err, want)
	}
}

func (a *agent) wantExchanges(logins, self, onward int) {
	a.t.Helper()
	n := a.kdc.Counts()
	if n.ASRep != logins || n.S4U2Self != self || n.S4U2Proxy != onward {
		a.t.Errorf("%d logins, %d users' tickets to us, %d to services, want %d, %d and %d", n.ASRep, n.S4U2Self, n.S4U2Proxy, logins, self, onward)
	}
}

func TestEvidenceServesAllServices(t *testing.T) {
	a := newAgent(t, 0)
	for range 3 {
		a.wantClient("alice", webSPN, "alice@"+corpRealm)
		a.wantClient("alice", "HTTP/files.corp.example", "alice@"+corpRealm)
	}
	a.wantExchanges(1, 1, 2)
}

func TestNamesOfUsersAreNeverFolded(t *testing.T) {
	a := newAgent(t, 0)
	a.realm.Principal("alice").Set(kdctest.Alias("alice@mail.example"))
	for range 2 {
		for _, name := range []string{"alice", "Alice", "ALICE", "alice@mail.example", "Alice@mail.example"} {
			a.wantClient(name, webSPN, "alice@"+corpRealm)
		}
	}
	a.wantExchanges(1, 5, 5) // all of them alice, which is the KDC's to say
}

func TestRefusalsAreRememberedForEachUser(t *testing.T) {
	a := newAgent(t, 0)
	a.realm.AddService("carol", kdctest.With(kdctest.NotDelegable))
	a.realm.AddService("dave", kdctest.With(kdctest.Disabled))
	refusals := map[string]messages.ErrorCode{
		"carol": messages.KDC_ERR_BADOPTION, "dave": messages.KDC_ERR_CLIENT_REVOKED, "nobody": messages.KDC_ERR_C_PRINCIPAL_UNKNOWN,
	}
	refused := func() {
		for name, code := range refusals {
			a.wantCode(name, code)
		}
	}
	refused()
	asked := a.kdc.Counts().TGSReq
	for range 10 {
		refused()
		a.wantClient("alice", webSPN, "alice@"+corpRealm)
	}
	if more := a.kdc.Counts().TGSReq - asked; more != 2 {
		t.Errorf("%d requests to the KDC for what is known, want alice's 2", more)
	}
	a.clock.advance(31 * time.Second)
	a.realm.Principal("dave").Set(kdctest.Without(kdctest.Disabled))
	a.wantClient("dave", webSPN, "dave@"+corpRealm)
	a.wantCode("carol", messages.KDC_ERR_BADOPTION)
	asked = a.kdc.Counts().TGSReq
	a.clock.advance(31 * time.Second)
	a.wantCode("carol", messages.KDC_ERR_BADOPTION)
	if more := a.kdc.Counts().TGSReq - asked; more != 0 {
		t.Errorf("%d requests, though the second refusal is remembered for a minute", more)
	}
}

// Whether evidence is forwardable was settled when it was made: an administrator who
// sets protocol transition must not wait until it ends.
func TestNewRightsCountBeforeTheEvidenceEnds(t *testing.T) {
	a := newAgent(t, 0, kdctest.SPN(proxySPN), kdctest.DelegateTo(webSPN))
	a.wantCode("alice", messages.KDC_ERR_BADOPTION)
	a.wantExchanges(1, 1, 0)
	a.proxy.Set(kdctest.With(kdctest.TrustedToAuth))
	a.clock.advance(31 * time.Second)
	a.wantClient("alice", webSPN, "alice@"+corpRealm)
	a.wantExchanges(1, 2, 1)
}

// Evidence is encrypted in our own key.
func TestEvidenceUnderAnOldKeyOfOursIsReplaced(t *testing.T) {
	a := newAgent(t, 0)
	a.wantClient("alice", webSPN, "alice@"+corpRealm)
	a.proxy.ChangePassword("another secret", false)
	a.clock.advance(time.Minute)
	// The ticket-granting ticket is still good, and nobody has to log in for it to be so.
	a.wantClient("alice", "HTTP/files.corp.example", "alice@"+corpRealm)
	if n := a.kdc.Counts(); n.S4U2Self != 2 || n.S4U2Proxy != 2 {
		t.Errorf("%d users' tickets to us, %d to services, want 2 and 2", n.S4U2Self, n.S4U2Proxy)
	}
}

func TestUsersSurviveANewKeyOfTheKDC(t *testing.T) {
	a := newAgent(t, 0)
	a.wantClient("alice", webSPN, "alice@"+corpRealm)
	a.realm.Principal("krbtgt/" + corpRealm).ChangeKey(false)
	a.wantClient("bob", webSPN, "bob@"+corpRealm)
	a.wantClient("alice", "HTTP/files.corp.example", "alice@"+corpRealm)
	a.wantExchanges(2, 2, 3)
}

// A user principal name may pass from one account to another.
func TestANameThatPassesToAnotherIsTheOthers(t *testing.T) {
	a := newAgent(t, 0)
	a.realm.SetLifetimes(time.Hour, 0)
	dora := a.realm.AddService("dora", kdctest.Alias("staff@mail.example"))
	a.wantClient("staff@mail.example", webSPN, "dora@"+corpRealm)
	a.realm.Remove(dora)
	a.realm.AddService("emma", kdctest.Alias("staff@mail.example"))
	a.wantClient("staff@mail.example", webSPN, "dora@"+corpRealm) // tickets are good until they end
	a.clock.advance(61 * time.Minute)
	a.wantClient("staff@mail.example", webSPN, "emma@"+corpRealm)
}

func TestOnlyActiveUsersAreRefreshed(t *testing.T) {
	a := newAgent(t, 0)
	a.realm.SetLifetimes(10*time.Hour, 0)
	name := func(i int) string { return fmt.Sprintf("user%d", i) }
	for i := range 40 {
		a.realm.AddService(name(i))
		a.wantClient(name(i), webSPN, name(i)+"@"+corpRealm)
	}
	a.wantExchanges(1, 40, 40)
	a.clock.advance(9 * time.Hour) // behind every refresh point, before every end
	within(t, func() bool {
		for i := range 5 { // what finds too many refreshes under way is refreshed on a later use
			a.wantClient(name(i), webSPN, name(i)+"@"+corpRealm)
		}
		return a.tickets.Stats().Flights == 0 && a.kdc.Counts().S4U2Proxy >= 45
	})
	if n := a.kdc.Counts(); n.S4U2Proxy != 45 || n.S4U2Self != 45 {
		t.Errorf("%d users' tickets to us, %d to services: want those of five users anew", n.S4U2Self, n.S4U2Proxy)
	}
}

func TestUnreachableKDCLeavesHeldUsersServed(t *testing.T) {
	a := newAgent(t, 0)
	a.wantClient("alice", webSPN, "alice@"+corpRealm)
	a.kdc.Stop()
	a.wantClient("alice", webSPN, "alice@"+corpRealm)
	target := a.target("bob", webSPN)
	_, err := a.identity.Grant(t.Context(), a.settings, &target, negotiate.DelegateNever)
	var far *kdc.UnreachableError
	if !errors.As(err, &far) {
		t.Errorf("bob, whom nobody has asked for: %v", err)
	}
}
