package faults

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// secret is octets that must not be found anywhere, and what they are.
type secret struct {
	what   string
	octets []byte
}

// shapes are the forms in which octets come into texts.
func (s secret) shapes() map[string][]byte {
	b := s.octets
	shapes := map[string][]byte{
		"as they are": b,
		"in hex":      []byte(hex.EncodeToString(b)),
		"in capitals": bytes.ToUpper([]byte(hex.EncodeToString(b))),
		"in decimal":  []byte(strings.Trim(fmt.Sprint(b), "[]")),
		"in json":     []byte(strings.Trim(strings.ReplaceAll(fmt.Sprint(b), " ", ","), "[]")),
		"quoted":      []byte(strings.Trim(fmt.Sprintf("%q", b), `"`)),
		"in x":        []byte(strings.TrimSpace(fmt.Sprintf("% x", b))),
	}
	// Within longer octets base64 looks in three ways, by where they begin; what
	// the neighbours have a share in is left out.
	for shift := range 3 {
		padded := append(make([]byte, shift), b...)
		n := len(padded) / 3 * 3
		text := base64.StdEncoding.EncodeToString(padded[:n])[(shift*8+5)/6:]
		shapes[fmt.Sprintf("in base64 at %d", shift)] = []byte(text)
		shapes[fmt.Sprintf("in base64 of URLs at %d", shift)] = []byte(strings.NewReplacer("+", "-", "/", "_").Replace(text))
	}
	return shapes
}

// find tells in which form the secret stands in a place, "" if in none.
func (s secret) find(place []byte) string {
	for shape, octets := range s.shapes() {
		if len(octets) >= 8 && bytes.Contains(place, octets) {
			return shape
		}
	}
	return ""
}

func TestSearchFindsSecretsInEachForm(t *testing.T) {
	s := secret{"a key", []byte("0123456789\x00\xff+/abcdef\"\\~~~~zz")}
	for _, place := range [][]byte{
		s.octets,
		fmt.Appendf(nil, "%x", s.octets), fmt.Appendf(nil, "%X", s.octets), fmt.Appendf(nil, "% x", s.octets),
		fmt.Appendf(nil, "%v", s.octets), fmt.Appendf(nil, "%q", s.octets), fmt.Appendf(nil, "%v", map[string]any{"key": s.octets}),
		[]byte(base64.StdEncoding.EncodeToString(s.octets)),
		[]byte(base64.RawURLEncoding.EncodeToString(append([]byte("x"), s.octets...))),
		[]byte(base64.StdEncoding.EncodeToString(append([]byte("xy"), append(bytes.Clone(s.octets), "tail"...)...))),
	} {
		if s.find(append([]byte("before "), place...)) == "" {
			t.Errorf("not found in %q", place)
		}
	}
	if shape := s.find([]byte("0123456789 and nothing else")); shape != "" {
		t.Errorf("found %s where it is not", shape)
	}
}

// wire keeps what went over the network.
type wire struct {
	mu     sync.Mutex
	kdc    [][]byte
	tokens map[string]bool
}

func (w *wire) record(next kdctest.Handler) kdctest.Handler {
	return func(q *kdctest.Question) kdctest.Answer {
		a := next(q)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.kdc = append(append(w.kdc, q.Message), a.Messages...)
		return a
	}
}

func (w *wire) token(header string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if scheme, token, ok := strings.Cut(header, " "); ok && scheme == "Negotiate" && token != "" {
		w.tokens[token] = true
	}
}

// secrets are all tickets, session keys and tokens that went over it.
func (w *wire) secrets(t *testing.T, keys []keytab.Entry) []secret {
	t.Helper()
	var all []secret
	ticket := func(tkt messages.Ticket) {
		name := tkt.SName.String()
		all = append(all, secret{"a ticket for " + name, tkt.EncPart.Cipher})
		for _, e := range keys {
			plain, err := e.Key.Decrypt(enctype.KEY_USAGE_TICKET, tkt.EncPart.Cipher)
			if err != nil {
				continue
			}
			part, err := messages.ParseEncTicketPart(plain)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, secret{"the session key of a ticket for " + name, part.Key.Bytes()})
			return
		}
		t.Errorf("a ticket for %s does not open: its session key is not looked for", name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.kdc {
		if rep, err := messages.ParseKDCRep(m); err == nil {
			ticket(rep.Ticket)
		}
	}
	for token := range w.tokens {
		b, err := base64.StdEncoding.DecodeString(token)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, secret{"a token", b[len(b)/2:]})
	}
	return all
}

func TestNoSecretShowsAnywhere(t *testing.T) {
	r := newRig(t)
	w := &wire{tokens: make(map[string]bool)}
	r.kdc.Use(w.record)
	r.proxy.Set(kdctest.With(kdctest.TrustedToAuth), kdctest.SPN("HTTP/proxy.corp.example"), kdctest.DelegateTo(service))
	r.web.Set(kdctest.With(kdctest.OKAsDelegate))
	users := map[string]string{"svc-password": "the password of svc-password", "svc-file": "the password of svc-file", "alice": "the password of alice"}
	everybody := []*kdctest.Principal{r.proxy, r.web, r.realm.Principal("krbtgt/" + realmName)}
	for name, password := range users {
		everybody = append(everybody, r.realm.AddUser(name, password))
	}
	r.realm.AddUser("svc-wrong", "what nobody knows")

	// An upstream that tells which tokens came, and proves itself.
	r.serveInstead(&http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		w.token(req.Header.Get("Authorization"))
		r.acceptor.Protect(http.HandlerFunc(kdctest.WhoHandler)).ServeHTTP(rw, req)
	})})

	storeKey := bytes.Repeat([]byte("store key"), 4)[:32]
	wrong := "a password that is wrong"
	t.Setenv("TICKET_KEY", base64.StdEncoding.EncodeToString(storeKey))
	t.Setenv("PROXY_PASSWORD", users["svc-password"])
	t.Setenv("WRONG_PASSWORD", wrong)
	autosave := caddy.ConfigAutosavePath
	caddy.ConfigAutosavePath = filepath.Join(r.folder, "autosave.json")
	t.Cleanup(func() { caddy.ConfigAutosavePath = autosave })

	admin := freeAddress(t)
	for range 7 {
		r.sites = append(r.sites, freeAddress(t))
	}
	file := r.write("password", []byte(users["svc-file"]+"\n"))
	common := func(more ...string) string {
		return lines(append([]string{"kdc " + r.kdc.Addr(), "trace"}, more...)...)
	}
	text := fmt.Sprintf(`{
	admin %s
	metrics
	auto_https off
	storage file_system %s
	log {
		output capture %s
		level DEBUG
	}
	kerberos {
		ticket_store storage {env.TICKET_KEY}
		identity keytab {
			user %s
			keytab %s
			%s
		}
	}
}
`, admin, filepath.Join(r.folder, "storage"), r.log.name, principal, r.keytab, common())
	site := func(i int, body string) {
		_, port, _ := net.SplitHostPort(r.sites[i])
		text += fmt.Sprintf(`
http://:%s {
	bind 127.0.0.1
	log
	%s
	handle_errors {
		respond "{err.status_code} {err.message} {err.trace} {http.negotiate.error} {http.negotiate.principal} {http.negotiate.spn} {http.negotiate.etype}"
	}
}
`, port, body)
	}
	handler := func(block string) string { return "negotiate {\n" + block + "\n}\nreverse_proxy " + r.target }
	transport := func(block string) string {
		return "reverse_proxy " + r.target + " {\ntransport negotiate keytab {\nspn " + service + "\n" + block + "\n}\n}"
	}
	site(0, handler(common("user "+principal, "keytab "+r.keytab, "spn "+service, "delegate always", "raw_kerberos")))
	site(1, handler(common("user svc-password@"+realmName, "password {env.PROXY_PASSWORD}", "spn "+service)))
	site(2, handler(common("user svc-file@"+realmName, "password_file "+file, "spn "+service)))
	site(3, handler(common("user svc-wrong@"+realmName, "password {env.WRONG_PASSWORD}", "spn "+service)))
	site(4, transport("mutual_auth required\ndelegate"))
	site(5, transport("mutual_auth on\nimpersonate {http.request.header.X-User}\ntrust_header X-User"))
	site(6, handler(common("user "+principal, "keytab "+r.keytab, "spn HTTP/unknown.corp.example")))
	if err := r.loadText(text); err != nil {
		t.Fatal(err)
	}

	var places []place
	for i, want := range []int{200, 200, 200, 502, 200, 200, 502} {
		for range 2 {
			a := r.visit(i)
			if a.status != want {
				t.Errorf("site %d: %v, want %d", i, a, want)
			}
			places = append(places, place{fmt.Sprintf("the answer of site %d", i), fmt.Appendf(nil, "%v %s", a.header, a.body)})
		}
	}
	r.rekey() // refusals, and repeats
	places = append(places, place{"the answer after a refusal", []byte(r.visit(4).body)})
	for _, path := range []string{"/config/", "/kerberos/identities", "/kerberos/tickets", "/metrics", "/reverse_proxy/upstreams"} {
		a, err := ask(t.Context(), r.client(), "http://"+admin+path)
		if err != nil || a.status != 200 {
			t.Errorf("%s: %v %v", path, a, err)
		}
		places = append(places, place{"the admin endpoint's " + path, []byte(a.body)})
	}
	// Stop leaves the admin endpoint alone.
	if err := caddy.Load([]byte(`{"admin": {"disabled": true, "config": {"persist": false}}}`), true); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	places = append(places, place{"the log", []byte(r.log.String())}, place{"the autosaved configuration", r.read(caddy.ConfigAutosavePath)})
	stored := 0
	_ = filepath.WalkDir(filepath.Join(r.folder, "storage"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			stored++
			places = append(places, place{"the storage's " + path, r.read(path)}, place{"the name of " + path, []byte(path)})
		}
		return nil
	})

	// What must not be found.
	file2, err := keytab.Parse(r.keysOf(everybody...))
	if err != nil {
		t.Fatal(err)
	}
	all := w.secrets(t, append(file2.Entries, r.oldKeys...))
	for _, e := range file2.Entries {
		all = append(all, secret{"a long-term key of " + e.Principal.String(), e.Key.Bytes()})
	}
	for name, password := range users {
		all = append(all, secret{"the password of " + name, []byte(password)})
	}
	all = append(all, secret{"the password that is wrong", []byte(wrong)}, secret{"the proxy's password", []byte(password)},
		secret{"the store's key", storeKey}, secret{"the store's key as it is given", []byte(base64.StdEncoding.EncodeToString(storeKey))})
	for _, p := range places {
		for _, s := range all {
			if shape := s.find(p.content); shape != "" {
				t.Errorf("%s holds %s, %s", p.name, s.what, shape)
			}
		}
	}
	if len(w.tokens) < 8 || stored < 8 || len(all) < 50 || !strings.Contains(r.log.String(), "kdc message") {
		t.Errorf("%d tokens, %d stored files, %d secrets: too few were driven", len(w.tokens), stored, len(all))
	}
	t.Logf("%d secrets (%d of them tokens) looked for in %d places: the log of %d KiB, %d stored files, 5 admin answers, error pages, the autosaved configuration",
		len(all), len(w.tokens), len(places), len(r.log.String())>>10, stored)
}

// place is where secrets are looked for.
type place struct {
	name    string
	content []byte
}

func (r *rig) read(path string) []byte {
	r.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		r.t.Error(err)
	}
	return b
}

// visit asks a site in the name of alice.
func (r *rig) visit(i int) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.sites[i]+"/", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("X-User", "alice")
	res, err := r.client().Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}
