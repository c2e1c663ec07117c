package faults

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// secret is bytes that must not be found anywhere, and what they are.
type secret struct {
	what  string
	bytes []byte
}

// shapes are the forms in which bytes come into texts.
func (s secret) shapes() map[string][]byte {
	b := s.bytes
	shapes := map[string][]byte{
		"as they are": b,
		"in hex":      []byte(hex.EncodeToString(b)),
		"in capitals": bytes.ToUpper([]byte(hex.EncodeToString(b))),
		"in decimal":  []byte(strings.Trim(fmt.Sprint(b), "[]")),
		"in json":     []byte(strings.Trim(strings.ReplaceAll(fmt.Sprint(b), " ", ","), "[]")),
		"quoted":      []byte(strings.Trim(fmt.Sprintf("%q", b), `"`)),
		"in x":        []byte(strings.TrimSpace(fmt.Sprintf("% x", b))),
	}
	// Within longer bytes base64 looks in three ways, by where they begin; what
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

// find returns the form in which a text holds the secret, "" if in none.
func (s secret) find(place []byte) string {
	for shape, text := range s.shapes() {
		if len(text) >= 8 && bytes.Contains(place, text) {
			return shape
		}
	}
	return ""
}

func TestSecrets_Search(t *testing.T) {
	s := secret{"a key", []byte("0123456789\x00\xff+/abcdef\"\\~~~~zz")}
	for _, place := range [][]byte{
		s.bytes,
		fmt.Appendf(nil, "%x", s.bytes), fmt.Appendf(nil, "%X", s.bytes), fmt.Appendf(nil, "% x", s.bytes),
		fmt.Appendf(nil, "%v", s.bytes), fmt.Appendf(nil, "%q", s.bytes), fmt.Appendf(nil, "%v", map[string]any{"key": s.bytes}),
		[]byte(base64.StdEncoding.EncodeToString(s.bytes)),
		[]byte(base64.RawURLEncoding.EncodeToString(append([]byte("x"), s.bytes...))),
		[]byte(base64.StdEncoding.EncodeToString(append([]byte("xy"), append(bytes.Clone(s.bytes), "tail"...)...))),
	} {
		if s.find(append([]byte("before "), place...)) == "" {
			t.Errorf("not found in %q", place)
		}
	}
	if shape := s.find([]byte("0123456789 and nothing else")); shape != "" {
		t.Errorf("found %s where it is not", shape)
	}
}

// recorder keeps what went over the network.
type recorder struct {
	mu     sync.Mutex
	kdc    [][]byte
	tokens map[string]bool
}

func (w *recorder) record(next kdctest.Handler) kdctest.Handler {
	return func(q *kdctest.Question) kdctest.Answer {
		a := next(q)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.kdc = append(append(w.kdc, q.Message), a.Messages...)
		return a
	}
}

func (w *recorder) token(header string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if scheme, token, ok := strings.Cut(header, " "); ok && scheme == "Negotiate" && token != "" {
		w.tokens[token] = true
	}
}

// secrets are all tickets, session keys and tokens that went over it.
func (w *recorder) secrets(t *testing.T, keys []keytab.Entry) []secret {
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
		if len(m) > 400 { // its end: not the names, nor an error
			all = append(all, secret{"a KDC message", m[len(m)-96 : len(m)-32]})
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

func TestSecrets_ShownNowhere(t *testing.T) {
	e := newEnv(t)
	w := &recorder{tokens: make(map[string]bool)}
	e.KDC.Use(w.record)
	e.Proxy.Set(kdctest.With(kdctest.TrustedToAuth), kdctest.SPN("HTTP/proxy.corp.example"), kdctest.DelegateTo(service))
	e.Web.Set(kdctest.With(kdctest.OKAsDelegate))
	users := map[string]string{"svc-password": "the password of svc-password", "svc-file": "the password of svc-file", "alice": "the password of alice"}
	everybody := []*kdctest.Principal{e.Proxy, e.Web, e.Realm.Principal("krbtgt/" + realmName)}
	for name, password := range users {
		everybody = append(everybody, e.Realm.AddUser(name, password))
	}
	e.Realm.AddUser("svc-wrong", "an unknown password")

	// An upstream that tells which tokens came, and proves itself.
	e.target = caddytest.Serve(t, &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		w.token(req.Header.Get("Authorization"))
		e.Acceptor.Protect(http.HandlerFunc(kdctest.WhoHandler)).ServeHTTP(rw, req)
	})})

	storeKey := bytes.Repeat([]byte("store key"), 4)[:32]
	wrong := "a password that is wrong"
	t.Setenv("TICKET_KEY", base64.StdEncoding.EncodeToString(storeKey))
	t.Setenv("PROXY_PASSWORD", users["svc-password"])
	t.Setenv("WRONG_PASSWORD", wrong)
	autosave := caddy.ConfigAutosavePath
	caddy.ConfigAutosavePath = filepath.Join(e.Dir, "autosave.json")
	t.Cleanup(func() { caddy.ConfigAutosavePath = autosave })

	admin := caddytest.FreeAddress(t)
	for range 6 {
		e.sites = append(e.sites, caddytest.FreeAddress(t))
	}
	file := e.Write("password", []byte(users["svc-file"]+"\n"))
	common := func(more ...string) string {
		return caddytest.Lines(append([]string{"kdc " + e.KDC.Addr(), "trace"}, more...)...)
	}
	text := caddytest.Block("", "admin "+admin, "metrics", "auto_https off", "storage file_system "+e.Storage(),
		caddytest.Block("log", "output capture "+e.Log.Name(), "level DEBUG"),
		caddytest.Block("kerberos", "ticket_store storage {env.TICKET_KEY}",
			caddytest.Block("identity keytab", "user "+principal, "keytab "+e.Keytab, common()))) + "\n"
	site := func(i int, body string) {
		text += caddytest.Block("http://:"+caddytest.Port(e.sites[i]), "bind 127.0.0.1", "log", body, caddytest.Block("handle_errors",
			`respond "{err.status_code} {err.message} {err.trace} {http.negotiate.error} {http.negotiate.principal} {http.negotiate.spn} {http.negotiate.etype}"`)) + "\n"
	}
	handler := func(block string) string { return "negotiate {\n" + block + "\n}\nreverse_proxy " + e.target }
	transport := func(block string) string {
		return "reverse_proxy " + e.target + " {\ntransport negotiate keytab {\nspn " + service + "\n" + block + "\n}\n}"
	}
	site(0, handler(common("user "+principal, "keytab "+e.Keytab, "spn "+service, "delegate always", "raw_kerberos")))
	site(1, handler(common("user svc-password@"+realmName, "password {env.PROXY_PASSWORD}", "spn "+service)))
	site(2, handler(common("user svc-file@"+realmName, "password_file "+file, "spn "+service)))
	site(3, handler(common("user svc-wrong@"+realmName, "password {env.WRONG_PASSWORD}", "spn "+service)))
	site(4, transport("mutual_auth required\ndelegate"))
	site(5, transport("mutual_auth on\nimpersonate {http.request.header.X-User}\ntrust_header X-User"))
	site(6, handler(common("user "+principal, "keytab "+e.Keytab, "spn HTTP/unknown.corp.example")))
	caddytest.Load(t, text)

	var outputs []output
	for i, want := range []int{200, 200, 200, 502, 200, 200, 502} {
		for range 2 {
			a := e.askAsAlice(i)
			if a.Status != want {
				t.Errorf("site %d: %v, want %d", i, a, want)
			}
			outputs = append(outputs, output{fmt.Sprintf("the answer of site %d", i), fmt.Appendf(nil, "%v %s", a.Header, a.Body)})
		}
	}
	e.ChangeServiceKey() // refusals, and repeats
	outputs = append(outputs, output{"the answer after a refusal", []byte(e.askAsAlice(4).Body)})
	for _, path := range []string{"/config/", "/kerberos/", "/kerberos/identities", "/kerberos/tickets", "/kerberos/ready", "/metrics", "/reverse_proxy/upstreams"} {
		a := caddytest.Do(t, caddytest.Request(t, http.MethodGet, "http://"+admin+path))
		if a.Status != 200 && (a.Status != http.StatusServiceUnavailable || path != "/kerberos/ready") { // some have wrong passwords
			t.Errorf("%s: %v", path, a)
		}
		outputs = append(outputs, output{"the admin endpoint's " + path, []byte(a.Body)})
	}
	// Stop leaves the admin endpoint alone.
	if err := caddy.Load([]byte(`{"admin": {"disabled": true, "config": {"persist": false}}}`), true); err != nil {
		t.Fatal(err)
	}
	caddytest.Stop(t)
	outputs = append(outputs, output{"the log", []byte(e.Log.String())}, output{"the autosaved configuration", []byte(caddytest.ReadFile(t, caddy.ConfigAutosavePath))})
	stored := 0
	_ = filepath.WalkDir(e.Storage(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			stored++
			outputs = append(outputs, output{"the storage's " + path, []byte(caddytest.ReadFile(t, path))}, output{"the name of " + path, []byte(path)})
		}
		return nil
	})

	// What must not be found.
	file2, err := keytab.Parse(e.KeysOf(everybody...))
	if err != nil {
		t.Fatal(err)
	}
	all := w.secrets(t, append(file2.Entries, e.oldKeys...))
	for _, e := range file2.Entries {
		all = append(all, secret{"a long-term key of " + e.Principal.String(), e.Key.Bytes()})
	}
	for name, password := range users {
		all = append(all, secret{"the password of " + name, []byte(password)})
	}
	all = append(all, secret{"the password that is wrong", []byte(wrong)}, secret{"the proxy's password", []byte(password)},
		secret{"the store's key", storeKey}, secret{"the store's key as it is given", []byte(base64.StdEncoding.EncodeToString(storeKey))})
	for _, p := range outputs {
		for _, s := range all {
			if shape := s.find(p.content); shape != "" {
				t.Errorf("%s holds %s, %s", p.name, s.what, shape)
			}
		}
	}
	if len(w.tokens) < 8 || stored < 8 || len(all) < 50 || !strings.Contains(e.Log.String(), "kdc message") {
		t.Errorf("%d tokens, %d stored files, %d secrets: too few were driven", len(w.tokens), stored, len(all))
	}
	t.Logf("%d secrets (%d of them tokens) looked for in %d outputs: the log of %d KiB, %d stored files, 5 admin answers, error pages, the autosaved configuration",
		len(all), len(w.tokens), len(outputs), len(e.Log.String())>>10, stored)
}

// output is something that secrets are looked for in.
type output struct {
	name    string
	content []byte
}

// askAsAlice asks a site for the user alice.
func (e *env) askAsAlice(i int) caddytest.Answer {
	e.T.Helper()
	return caddytest.Do(e.T, caddytest.Request(e.T, http.MethodGet, "http://"+e.sites[i]+"/",
		func(r *http.Request) { r.Header.Set("X-User", "alice") }))
}
