package identitytest

import (
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// What a Domain has.
const (
	Realm   = "CORP.EXAMPLE"
	Account = "svc-proxy"
	Service = "HTTP/web.corp.example"
)

// Config changes a Domain before it starts.
type Config struct {
	Password string           // of Account
	Proxy    []kdctest.Option // of Account
	Tickets  cache.Config
}

// Domain is a realm with a KDC, the proxy's account and a service, on one clock.
type Domain struct {
	T       *testing.T
	Clock   *Clock
	Realm   *kdctest.Realm
	KDC     *kdctest.KDC
	Proxy   *kdctest.Principal // Account
	Web     *kdctest.Principal // Service
	Tickets *negotiate.Tickets
	Events  *Events // of all identities
	// Breakers is where identities that are made next keep their breakers; nil for nowhere.
	Breakers negotiate.BreakerStore
}

// New starts a KDC.
func New(t *testing.T, with Config) *Domain {
	t.Helper()
	d := &Domain{T: t, Clock: NewClock(), Realm: kdctest.NewRealm(Realm), Events: new(Events)}
	d.Proxy = d.Realm.AddUser(Account, with.Password, with.Proxy...)
	d.Web = d.Realm.AddService(Service)
	d.KDC = kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{d.Realm}, Now: d.Clock.True})
	must.Do(t, d.KDC.Start())
	t.Cleanup(d.KDC.Stop)
	with.Tickets.Now = d.Clock.Now
	d.Tickets = cache.New[*negotiate.Ticket](with.Tickets)
	return d
}

// Principal is Account.
func (d *Domain) Principal() messages.Principal {
	return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, Account), Realm: Realm}
}

// Identity is Account with a secret.
func (d *Domain) Identity(secret negotiate.Secret) *negotiate.Identity {
	d.T.Helper()
	return must.OK(negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: Account + "@" + Realm, Principal: d.Principal(), Secret: secret,
		Tickets: d.Tickets, Now: d.Clock.Now, Observe: d.Events.Observe,
		Breakers: func() negotiate.BreakerStore { return d.Breakers },
	}))(d.T)
}

// Servers finds the KDCs with these addresses.
func Servers(t *testing.T, addresses ...string) kdc.Static {
	t.Helper()
	found := make(kdc.Static)
	for _, a := range addresses {
		found[Realm] = append(found[Realm], must.OK(kdc.ParseServer(a))(t))
	}
	return found
}

// Settings ask the KDCs that with finds, without a Finder the one there is.
func (d *Domain) Settings(with kdc.Config, timeout time.Duration) *negotiate.Settings {
	d.T.Helper()
	if with.Finder == nil {
		with.Finder = Servers(d.T, d.KDC.Addr())
	}
	sender := must.OK(kdc.NewSender(with))(d.T)
	client := must.OK(krb5core.NewClient(krb5core.Config{Sender: sender, Finder: with.Finder, Timeout: timeout}))(d.T)
	return negotiate.NewSettings("proxy", client)
}

// Target is a service that has the SPN.
func Target(t *testing.T, spn string) *negotiate.Target {
	t.Helper()
	return &negotiate.Target{SPN: must.OK(negotiate.ParseSPN(spn))(t)}
}
