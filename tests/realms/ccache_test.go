package realms

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// holder is an identity, with a clock of its own.
type holder struct {
	*negotiate.Identity
	settings *negotiate.Settings
	tickets  *negotiate.Tickets

	mu     sync.Mutex
	now    time.Time
	events []negotiate.Event
}

// newHolder is an identity on top of a credential cache.
func newHolder(t *testing.T, client *krb5core.Client, path string) *holder {
	t.Helper()
	return holderOf(t, client, messages.Principal{}, negotiate.CCacheSecret(path))
}

func holderOf(t *testing.T, client *krb5core.Client, principal messages.Principal, secret negotiate.Secret) *holder {
	t.Helper()
	h := &holder{now: time.Now(), settings: negotiate.NewSettings("holder", client)}
	h.tickets = cache.New[*negotiate.Ticket](cache.Config{Now: h.clock})
	t.Cleanup(h.tickets.Close)
	var err error
	h.Identity, err = negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: "holder", Principal: principal, Secret: secret, Tickets: h.tickets, Now: h.clock,
		Observe: func(e negotiate.Event) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.events = append(h.events, e)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *holder) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// pass lets time pass for us, not for the KDC.
func (h *holder) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func (h *holder) ticket(t *testing.T, service string) (*messages.Credential, error) {
	t.Helper()
	s, err := negotiate.ParseSPN(service)
	if err != nil {
		t.Fatal(err)
	}
	held, _, err := h.Ticket(t.Context(), h.settings, &negotiate.Target{SPN: s})
	if err != nil {
		return nil, err
	}
	return held.Credential(), nil
}

// mustTicket gives the ticket, which must be of the client.
func (h *holder) mustTicket(t *testing.T, service, client string) *messages.Credential {
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
		{Name: "alice", Password: "alice-secret"}, {Name: "bob", Password: "bob-secret"},
		{Name: "HTTP/app.lab.test"}, {Name: "HTTP/other.lab.test"},
	}
	m := lab.StartMIT(t, with)
	return m, lab.NewTools(t, m)
}

func TestCCacheOfKinitIsUsed(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret")
	client, tr := newClient(t, nil, m)
	h := newHolder(t, client, x.CCache())
	if got := h.Principal().String(); got != "alice@LAB.TEST" {
		t.Errorf("the cache is of %s", got)
	}
	cred := h.mustTicket(t, "HTTP/app.lab.test", "alice@LAB.TEST")
	opened(t, cred, m.Keytab(t, "HTTP/app.lab.test"))
	if tr.count("KRB_AS_REQ") != 0 || tr.count("sent", "KRB_TGS_REQ") != 1 {
		t.Errorf("want one ticket asked for and no login:\n%s", tr)
	}
}

func TestServiceTicketOfTheCCacheIsUsed(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret")
	x.Kvno("HTTP/app.lab.test")
	client, tr := newClient(t, nil, m)
	h := newHolder(t, client, x.CCache())
	m.Stop() // nobody needs it
	h.mustTicket(t, "HTTP/app.lab.test", "alice@LAB.TEST")
	if n := tr.count("sent"); n != 0 {
		t.Errorf("the KDC was asked:\n%s", tr)
	}
}

func TestReplacedCCacheOfTheSamePrincipal(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret", "-l", "5m")
	client, _ := newClient(t, nil, m)
	h := newHolder(t, client, x.CCache())
	first := h.mustTicket(t, "HTTP/app.lab.test", "alice@LAB.TEST")
	x.Kinit("alice", "alice-secret", "-l", "2h")
	h.pass(2 * time.Second)
	if again := h.mustTicket(t, "HTTP/app.lab.test", "alice@LAB.TEST"); again != first {
		t.Error("the held service ticket was thrown away")
	}
	other := h.mustTicket(t, "HTTP/other.lab.test", "alice@LAB.TEST")
	if life := other.EndTime.Sub(first.EndTime); life < time.Hour {
		t.Errorf("the new ticket-granting ticket was not used: %s", life)
	}
}

func TestReplacedCCacheOfAnotherPrincipal(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret")
	client, _ := newClient(t, nil, m)
	h := newHolder(t, client, x.CCache())
	for _, user := range []string{"alice", "bob", "alice"} {
		x.Kinit(user, user+"-secret")
		h.pass(2 * time.Second)
		for _, service := range []string{"HTTP/app.lab.test", "HTTP/other.lab.test"} {
			h.mustTicket(t, service, user+"@LAB.TEST")
		}
	}
}

// The cache may be replaced between the look at it and the question to the KDC.
func TestCCacheReplacedUnderwayMixesNobodyUp(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret")
	client, _ := newClient(t, nil, m)
	h := newHolder(t, client, x.CCache())
	h.pass(2 * time.Second)
	h.mustTicket(t, "HTTP/app.lab.test", "alice@LAB.TEST") // looked at, and not again for a second
	h.Flush()
	x.Kinit("bob", "bob-secret")
	h.mustTicket(t, "HTTP/app.lab.test", "bob@LAB.TEST")
	x.Kinit("alice", "alice-secret")
	h.pass(2 * time.Second)
	h.mustTicket(t, "HTTP/app.lab.test", "alice@LAB.TEST")
}

func TestTicketOfTheCCacheIsRenewed(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret", "-l", "6m", "-r", "2h")
	client, tr := newClient(t, nil, m)
	h := newHolder(t, client, x.CCache())
	h.pass(4*time.Minute + 30*time.Second) // of which the KDC knows nothing, but finds it within the skew
	h.mustTicket(t, "HTTP/other.lab.test", "alice@LAB.TEST")
	if n := tr.count("sent", "KRB_TGS_REQ"); n != 2 || tr.count("KRB_AS_REQ") != 0 {
		t.Errorf("want a renewal and a ticket:\n%s", tr)
	}
	if n := m.Count(t, lab.Exchange{Kind: "TGS_REQ", Status: "ISSUE", Service: "krbtgt/LAB.TEST@LAB.TEST"}); n != 1 {
		t.Errorf("%d renewals at the KDC, want 1", n)
	}
}

func TestTicketOfTheCCacheThatCannotBeRenewedServesOn(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret", "-l", "6m", "-r", "2h")
	x.Kvno("HTTP/app.lab.test")
	client, _ := newClient(t, nil, m)
	h := newHolder(t, client, x.CCache())
	h.pass(4*time.Minute + 30*time.Second)
	m.Stop()
	if _, err := h.Login(t.Context(), h.settings); err != nil {
		t.Errorf("the ticket is good for a while: %v", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.ContainsFunc(h.events, func(e negotiate.Event) bool { _, ok := e.(negotiate.RenewFailed); return ok }) {
		t.Errorf("nobody was told: %v", h.events)
	}
}

func TestCCacheWithoutATGTThatLastsSaysKinit(t *testing.T) {
	m, x := twoUsers(t, lab.MITOptions{})
	x.Kinit("alice", "alice-secret", "-l", "5m")
	client, _ := newClient(t, nil, m)
	h := newHolder(t, client, x.CCache())
	h.pass(10 * time.Minute)
	if _, err := h.ticket(t, "HTTP/app.lab.test"); err == nil || !strings.Contains(err.Error(), "kinit -c "+x.CCache()) {
		t.Errorf("%v", err)
	}
}

func TestCCacheOfOursIsListedByKlist(t *testing.T) {
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
	if err := os.WriteFile(x.CCache(), content, 0o600); err != nil {
		t.Fatal(err)
	}
	list := x.Klist()
	for _, want := range []string{
		"Default principal: alice@LAB.TEST", "krbtgt/LAB.TEST@LAB.TEST", "HTTP/app.lab.test@LAB.TEST", "aes256-cts-hmac-sha1-96",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("no %s in\n%s", want, list)
		}
	}
	// MIT's library goes on with it.
	x.Kvno("HTTP/other.lab.test")
	if n := m.Logins(t, "alice@LAB.TEST"); n != 1 {
		t.Errorf("%d logins, want ours alone", n)
	}
}
