package realms

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

func TestMain(m *testing.M) { caddytest.Main(m) }

// recorder keeps what a client's tracer saw.
type recorder struct {
	mu        sync.Mutex
	messages  []string // "udp sent KRB_AS_REQ"
	decisions []string
	events    []exchange.Event
}

func (r *recorder) ObserveMessage(_ context.Context, m kdc.MessageEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what := messages.TypeOf(m.Data).String()
	if e, err := messages.ParseKRBError(m.Data); err == nil {
		what = e.ErrorCode.String()
	}
	r.messages = append(r.messages, fmt.Sprintf("%s %s %s", m.Protocol, m.Direction, what))
}

func (r *recorder) ObserveDecision(_ context.Context, d kdc.Decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.decisions = append(r.decisions, d.Kind.String())
}

func (r *recorder) ObserveExchange(_ context.Context, _ krb5core.Op, e exchange.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// count is how many messages or decisions hold all the words.
func (r *recorder) count(words ...string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, line := range slices.Concat(r.messages, r.decisions) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.messages, "\n")
}

// eventOf is the first event of a type.
func eventOf[E exchange.Event](r *recorder) (E, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e, ok := e.(E); ok {
			return e, true
		}
	}
	var none E
	return none, false
}

// newClient is a client that knows the KDCs of the realms, and nothing else of them.
func newClient(t *testing.T, with func(*krb5core.Config), realms ...lab.Realm) (*krb5core.Client, *recorder) {
	t.Helper()
	finder := make(kdc.Static)
	for _, r := range realms {
		finder[r.Name()] = []kdc.Server{server(t, r.KDC())}
	}
	tr := new(recorder)
	sender, err := kdc.NewSender(kdc.Config{Finder: finder, Observer: tr})
	if err != nil {
		t.Fatal(err)
	}
	cfg := krb5core.Config{Sender: sender, Finder: finder, Tracer: tr}
	if with != nil {
		with(&cfg)
	}
	client, err := krb5core.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client, tr
}

func server(t *testing.T, address string) kdc.Server {
	t.Helper()
	s, err := kdc.ParseServer(address)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// password is an account that logs in by password.
func password(t *testing.T, user, password string, clock *krb5core.Clock) *krb5core.Account {
	t.Helper()
	p, err := krb5core.ParseUser(user, krb5core.UserForm{})
	if err != nil {
		t.Fatal(err)
	}
	return krb5core.NewAccount(p, krb5core.PasswordKeys(func() (string, error) { return password, nil }), clock)
}

// keys is an account that logs in by keytab.
func keys(t *testing.T, user string, file *keytab.Keytab) *krb5core.Account {
	t.Helper()
	p, err := krb5core.ParseUser(user, krb5core.UserForm{})
	if err != nil {
		t.Fatal(err)
	}
	source, err := krb5core.KeytabKeys(file, p)
	if err != nil {
		t.Fatal(err)
	}
	return krb5core.NewAccount(p, source, nil)
}

func readKeytab(t *testing.T, path string) *keytab.Keytab {
	t.Helper()
	file, err := keytab.Parse([]byte(caddytest.ReadFile(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// login fails the test if it fails.
func login(t *testing.T, c *krb5core.Client, a *krb5core.Account) *messages.Credential {
	t.Helper()
	tgt, err := c.Login(t.Context(), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tgt
}

// ticket fails the test if there is none.
func ticket(t *testing.T, c *krb5core.Client, a *krb5core.Account, tgt *messages.Credential, service string) *messages.Credential {
	t.Helper()
	cred, err := c.ServiceTicket(t.Context(), a, tgt, spn(t, service))
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

// spn reads HTTP/host, its realm unknown, as the plugin asks for it.
func spn(t *testing.T, service string) messages.Principal {
	t.Helper()
	p, err := messages.ParsePrincipal(service, "")
	if err != nil {
		t.Fatal(err)
	}
	p.Name.NameType = messages.KRB_NT_SRV_INST
	return p
}

// opened decrypts a ticket as its service would, and proves that it is one.
func opened(t *testing.T, cred *messages.Credential, keytabPath string) *messages.EncTicketPart {
	t.Helper()
	tkt, err := messages.ParseTicket(cred.Ticket)
	if err != nil {
		t.Fatal(err)
	}
	key, ok := readKeytab(t, keytabPath).Key(cred.Service, tkt.EncPart.EType, tkt.EncPart.KVNO)
	if !ok {
		t.Fatalf("no key of %s, %s", cred.Service, tkt.EncPart.EType)
	}
	plain, err := key.Decrypt(enctype.KEY_USAGE_TICKET, tkt.EncPart.Cipher)
	if err != nil {
		t.Fatal(err)
	}
	part, err := messages.ParseEncTicketPart(plain)
	if err != nil {
		t.Fatal(err)
	}
	return part
}

// refused fails the test unless the KDC refused with the code. It returns the error.
func refused(t *testing.T, err error, code messages.ErrorCode) *krb5core.Error {
	t.Helper()
	fail, ok := err.(*krb5core.Error)
	if !ok || !fail.Refused || fail.Code != code {
		t.Fatalf("%v, want a refusal with %s", err, code)
	}
	return fail
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	return caddytest.WriteFile(t, filepath.Join(t.TempDir(), name), content)
}
