package realms

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// identity is an Identity with a clock of its own, of which the KDC knows nothing.
type identity struct {
	*negotiate.Identity
	settings *negotiate.Settings
	tickets  *negotiate.Tickets
	clock    *identitytest.Clock
	events   *identitytest.Events
}

// newCCacheIdentity is an identity that uses a credential cache.
func newCCacheIdentity(t *testing.T, client *krb5core.Client, path string) *identity {
	t.Helper()
	return newIdentity(t, client, messages.Principal{}, negotiate.CCacheSecret(ccache.File(path)))
}

func newIdentity(t *testing.T, client *krb5core.Client, principal messages.Principal, secret negotiate.Secret) *identity {
	t.Helper()
	h := &identity{settings: negotiate.NewSettings("holder", client), clock: identitytest.NewClock(), events: new(identitytest.Events)}
	h.tickets = cache.New[*negotiate.Ticket](cache.Config{Now: h.clock.Now})
	h.Identity = must.OK(negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: "holder", Principal: principal, Secret: secret, Tickets: h.tickets, Now: h.clock.Now, Observe: h.events.Observe,
	}))(t)
	return h
}

func (h *identity) ticket(t *testing.T, service string) (*messages.Credential, error) {
	t.Helper()
	g, err := h.Initiator(h.settings).Grant(t.Context(), identitytest.Target(t, service), negotiate.DelegateNever)
	if err != nil {
		return nil, err
	}
	return g.Ticket.Credential(), nil
}

// mustTicket gives the ticket, which must be of the client.
func (h *identity) mustTicket(t *testing.T, service, client string) *messages.Credential {
	t.Helper()
	cred, err := h.ticket(t, service)
	if err != nil {
		t.Fatal(err)
	}
	if got := cred.Client.String(); got != client {
		t.Fatalf("a ticket of %s, want %s", got, client)
	}
	return cred
}

func twoUsers(t *testing.T, with lab.MITOptions) (*lab.MIT, *lab.Tools) {
	t.Helper()
	with.Principals = []lab.Principal{
		{Name: "alice", Password: "alice-secret"},
		{Name: "bob", Password: "bob-secret"},
		{Name: "HTTP/app.lab.test"},
		{Name: "HTTP/other.lab.test"},
	}
	m := lab.StartMIT(t, with)
	return m, lab.NewTools(t, m)
}

func TestCCache_TGT(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret")
	client, tr := newClient(t, nil, m)
	h := newCCacheIdentity(t, client, x.CCache())
	if got := h.Principal().String(); got != "alice@LAB.TEST" {
		t.Errorf("the cache is of %s", got)
	}
	cred := h.mustTicket(t, "HTTP/app.lab.test", "alice@LAB.TEST")
	opened(t, cred, m.Keytab(t, "HTTP/app.lab.test"))
	if tr.count("KRB_AS_REQ") != 0 || tr.count("sent", "KRB_TGS_REQ") != 1 {
		t.Errorf("want one ticket asked for and no login:\n%s", tr)
	}
}

func TestCCache_ServiceTicket(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret")
	x.Kvno("HTTP/app.lab.test")
	client, tr := newClient(t, nil, m)
	h := newCCacheIdentity(t, client, x.CCache())
	m.Stop() // it is not needed
	h.mustTicket(t, "HTTP/app.lab.test", "alice@LAB.TEST")
	if n := tr.count("sent"); n != 0 {
		t.Errorf("the KDC was asked:\n%s", tr)
	}
}

func TestCCache_ReplacedSamePrincipal(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret", "-l", "5m")
	client, _ := newClient(t, nil, m)
	h := newCCacheIdentity(t, client, x.CCache())
	first := h.mustTicket(t, "HTTP/app.lab.test", "alice@LAB.TEST")
	x.Kinit("alice", "alice-secret", "-l", "2h")
	h.clock.Advance(2 * time.Second)
	if again := h.mustTicket(t, "HTTP/app.lab.test", "alice@LAB.TEST"); again != first {
		t.Error("the held service ticket was thrown away")
	}
	other := h.mustTicket(t, "HTTP/other.lab.test", "alice@LAB.TEST")
	if life := other.EndTime.Sub(first.EndTime); life < time.Hour {
		t.Errorf("the new ticket-granting ticket was not used: %s", life)
	}
}

func TestCCache_ReplacedOtherPrincipal(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret")
	client, _ := newClient(t, nil, m)
	h := newCCacheIdentity(t, client, x.CCache())
	for _, user := range []string{"alice", "bob", "alice"} {
		x.Kinit(user, user+"-secret")
		h.clock.Advance(2 * time.Second)
		for _, service := range []string{"HTTP/app.lab.test", "HTTP/other.lab.test"} {
			h.mustTicket(t, service, user+"@LAB.TEST")
		}
	}
}

// The cache may be replaced between the look at it and the question to the KDC.
func TestCCache_ReplacedDuringUse(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret")
	client, _ := newClient(t, nil, m)
	h := newCCacheIdentity(t, client, x.CCache())
	h.clock.Advance(2 * time.Second)
	h.mustTicket(t, "HTTP/app.lab.test", "alice@LAB.TEST") // looked at, and not again for a second
	h.Flush()
	x.Kinit("bob", "bob-secret")
	h.mustTicket(t, "HTTP/app.lab.test", "bob@LAB.TEST")
	x.Kinit("alice", "alice-secret")
	h.clock.Advance(2 * time.Second)
	h.mustTicket(t, "HTTP/app.lab.test", "alice@LAB.TEST")
}

func TestCCache_Renewed(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret", "-l", "6m", "-r", "2h")
	client, tr := newClient(t, nil, m)
	h := newCCacheIdentity(t, client, x.CCache())
	h.clock.Advance(4*time.Minute + 30*time.Second) // of which the KDC knows nothing, but finds it within the skew
	h.mustTicket(t, "HTTP/other.lab.test", "alice@LAB.TEST")
	if n := tr.count("sent", "KRB_TGS_REQ"); n != 2 || tr.count("KRB_AS_REQ") != 0 {
		t.Errorf("want a renewal and a ticket:\n%s", tr)
	}
	if n := m.Count(t, lab.Exchange{Kind: "TGS_REQ", Status: "ISSUE", Service: "krbtgt/LAB.TEST@LAB.TEST"}); n != 1 {
		t.Errorf("%d renewals at the KDC, want 1", n)
	}
}

func TestCCache_RenewalFails(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret", "-l", "6m", "-r", "2h")
	x.Kvno("HTTP/app.lab.test")
	client, _ := newClient(t, nil, m)
	h := newCCacheIdentity(t, client, x.CCache())
	h.clock.Advance(4*time.Minute + 30*time.Second)
	m.Stop()
	if _, err := h.Initiator(h.settings).Login(t.Context()); err != nil {
		t.Errorf("the ticket is good for a while: %v", err)
	}
	if len(identitytest.Seen[negotiate.RenewFailed](h.events)) == 0 {
		t.Errorf("no event: %v", h.events.All())
	}
}

func TestCCache_ExpiredSaysKinit(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret", "-l", "5m")
	client, _ := newClient(t, nil, m)
	h := newCCacheIdentity(t, client, x.CCache())
	h.clock.Advance(10 * time.Minute)
	if _, err := h.ticket(t, "HTTP/app.lab.test"); err == nil || !strings.Contains(err.Error(), "kinit -c "+x.CCache()) {
		t.Errorf("%v", err)
	}
}

func TestCCache_ReadByKlist(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	client, _ := newClient(t, nil, m)
	alice := password(t, "alice@LAB.TEST", "alice-secret", nil)
	tgt := login(t, client, alice)
	file := &ccache.CCache{
		Version: 4, DefaultPrincipal: tgt.Client,
		Credentials: []messages.Credential{*tgt, *ticket(t, client, alice, tgt, "HTTP/app.lab.test")},
	}
	content, err := file.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	caddytest.WriteFile(t, x.CCache(), content)
	list := x.Klist()
	for _, want := range []string{
		"Default principal: alice@LAB.TEST", "krbtgt/LAB.TEST@LAB.TEST", "HTTP/app.lab.test@LAB.TEST", "aes256-cts-hmac-sha1-96",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("no %s in\n%s", want, list)
		}
	}
	// MIT's library can use it.
	x.Kvno("HTTP/other.lab.test")
	if n := m.Logins(t, "alice@LAB.TEST"); n != 1 {
		t.Errorf("%d logins, want ours alone", n)
	}
}
