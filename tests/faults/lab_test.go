package faults

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// laboratory is identities without Caddy, at a KDC and under a clock of the test's own.
type laboratory struct {
	t       *testing.T
	clock   *clock
	realm   *kdctest.Realm
	kdc     *kdctest.KDC
	proxy   *kdctest.Principal
	web     *kdctest.Principal
	tickets *negotiate.Tickets
	events  *events
}

func newLab(t *testing.T) *laboratory {
	t.Helper()
	leakCheck(t)
	l := &laboratory{t: t, clock: newClock(), realm: kdctest.NewRealm(realmName), events: new(events)}
	l.proxy = l.realm.AddUser(account, password)
	l.web = l.realm.AddService(service)
	l.kdc = kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{l.realm}, Now: l.clock.True})
	if err := l.kdc.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.kdc.Stop)
	l.tickets = cache.New[*negotiate.Ticket](cache.Config{Now: l.clock.Now})
	t.Cleanup(l.tickets.Close)
	return l
}

func (l *laboratory) identity(secret negotiate.Secret) *negotiate.Identity {
	l.t.Helper()
	id, err := negotiate.NewIdentity(negotiate.IdentityConfig{
		Key:       principal,
		Principal: l.principal(),
		Secret:    secret, Tickets: l.tickets, Now: l.clock.Now, Observe: l.events.observe,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return id
}

// settings ask the given KDCs, or the one there is.
func (l *laboratory) settings(kdcs ...*kdctest.KDC) *negotiate.Settings {
	l.t.Helper()
	return l.observed(nil, kdcs...)
}

// patient are settings for very many questions at once, however busy the machine.
func (l *laboratory) patient() *negotiate.Settings {
	l.t.Helper()
	return l.made(time.Minute, nil, l.kdc)
}

// observed are settings whose messages and decisions are observed.
func (l *laboratory) observed(by kdc.Observer, kdcs ...*kdctest.KDC) *negotiate.Settings {
	l.t.Helper()
	return l.made(5*time.Second, by, kdcs...)
}

func (l *laboratory) made(timeout time.Duration, by kdc.Observer, kdcs ...*kdctest.KDC) *negotiate.Settings {
	l.t.Helper()
	if len(kdcs) == 0 {
		kdcs = []*kdctest.KDC{l.kdc}
	}
	finder := make(kdc.Static)
	for _, k := range kdcs {
		server, err := kdc.ParseServer(k.Addr())
		if err != nil {
			l.t.Fatal(err)
		}
		finder[realmName] = append(finder[realmName], server)
	}
	sender, err := kdc.NewSender(kdc.Config{Finder: finder, Observer: by})
	if err != nil {
		l.t.Fatal(err)
	}
	client, err := krb5core.NewClient(krb5core.Config{Sender: sender, Finder: finder, Timeout: timeout})
	if err != nil {
		l.t.Fatal(err)
	}
	return negotiate.NewSettings("proxy", client)
}

func (l *laboratory) target(service string) *negotiate.Target {
	l.t.Helper()
	spn, err := negotiate.ParseSPN(service)
	if err != nil {
		l.t.Fatal(err)
	}
	return &negotiate.Target{SPN: spn}
}

func (l *laboratory) grant(id *negotiate.Identity, s *negotiate.Settings, service string) (negotiate.Grant, error) {
	l.t.Helper()
	return id.Grant(l.t.Context(), s, l.target(service), negotiate.DelegateNever)
}

func (l *laboratory) principal() messages.Principal {
	return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, account), Realm: realmName}
}

// keytab is the path of a keytab of the proxy's account.
func (l *laboratory) keytab() string {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "svc-proxy.keytab")
	replace(l.t, path, keysOf(l.t, l.realm, l.proxy))
	return path
}

func keysOf(t *testing.T, realm *kdctest.Realm, p ...*kdctest.Principal) []byte {
	t.Helper()
	keys, err := realm.Keytab(p...)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// acceptor is that of the web service, whose clock is right.
func (l *laboratory) acceptor() *kdctest.Acceptor {
	l.t.Helper()
	a, err := kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: keysOf(l.t, l.realm, l.web), Now: l.clock.True})
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

// show presents a token at the door and judges the answer.
func (l *laboratory) show(a *kdctest.Acceptor, token negotiate.Token) negotiate.Verdict {
	l.t.Helper()
	r := httptest.NewRequestWithContext(l.t.Context(), http.MethodGet, "http://"+webHost+"/", nil)
	r.Header.Set("Authorization", token.Header)
	w := httptest.NewRecorder()
	a.Protect(http.HandlerFunc(kdctest.WhoHandler)).ServeHTTP(w, r)
	return token.Judge(w.Code, w.Header())
}

// clock is a clock that is set by hand, and may be wrong.
type clock struct {
	mu    sync.Mutex
	at    time.Time
	wrong time.Duration
}

func newClock() *clock { return &clock{at: time.Now()} }

// Now is the time as we take it to be.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.Add(c.wrong)
}

// True is the time as everybody else has it.
func (c *clock) True() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// Wrong sets our own clock off.
func (c *clock) Wrong(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = d
}

// events are those of an identity.
type events struct {
	mu  sync.Mutex
	all []negotiate.Event
}

func (e *events) observe(event negotiate.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

// count is how many events there were of a type.
func count[E negotiate.Event](e *events) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, event := range e.all {
		if _, ok := event.(E); ok {
			n++
		}
	}
	return n
}
