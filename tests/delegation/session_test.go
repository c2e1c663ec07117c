package delegation

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// runSession has users sign in for a session, and proxies as them.
func (e *env) runSession(session string, more ...string) {
	e.T.Helper()
	load(&e.Caddy, e.identity(more...), caddytest.Block(signIn, "spn "+proxySPN, session), e.byTicket())
}

// begin signs a user in by a token and returns the session's cookie.
func (e *env) begin(u *caddytest.User) string {
	e.T.Helper()
	a := e.Get("/", u.SignIn)
	if a.Status != http.StatusOK {
		e.T.Fatalf("signing in: %v", a)
	}
	return sessionCookie(e.T, a)
}

func sessionCookie(t *testing.T, a caddytest.Answer) string {
	t.Helper()
	set, ok := strings.CutSuffix(a.Header.Get("Set-Cookie"), "; Path=/; HttpOnly; Secure; SameSite=Lax")
	if !ok || !strings.HasPrefix(set, "__Host-negotiate=") {
		t.Fatalf("the cookie is %q", a.Header.Get("Set-Cookie"))
	}
	return set
}

// withCookie sets the cookies of a request.
func withCookie(cookie string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Cookie", cookie) }
}

// Users who have signed in are themselves to the upstream without a token, also after a reload and with
// a key of their own in the storage; the upstream does not get the cookie.
func TestSession_OverReload(t *testing.T) {
	users := caddytest.Long(40, 1000)
	const width = 16
	for _, storage := range []string{"", "ticket_store storage {env.TICKET_KEY}"} {
		t.Setenv("TICKET_KEY", "c2l4dGVlbiBieXRlcywgdHdpY2UuIHNpeHRlZW4gYnk=")
		seen := make(chan string, 1)
		e := newSignInEnv(t, caddytest.Options{Upstream: kdctest.UpstreamConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.Header.Get("Cookie"), "negotiate") {
				select {
				case seen <- r.Header.Get("Cookie"):
				default:
				}
			}
			kdctest.WhoHandler(w, r)
		})}})
		cookies := make([]string, users)
		for i := range users {
			e.Realm.AddUser(userName(i), "x")
		}
		e.runSession("session", storage)
		caddytest.All(t, users, width, func(i int) error {
			a, err := caddytest.Ask(e.Client(), e.Request(http.MethodGet, "/", e.user(userName(i)).SignIn))
			if err == nil && !a.IsUser(userName(i)+"@"+corpRealm) {
				err = fmt.Errorf("%v", a)
			}
			cookies[i] = sessionCookie(t, a)
			return err
		})
		asked := e.KDC.Counts()
		for _, reload := range []string{"ticket_memory 100MiB", "ticket_memory 101MiB"} {
			e.runSession("session", storage, reload)
			client := e.Client()
			caddytest.All(t, users, width, func(i int) error {
				a, err := caddytest.Ask(client, e.Request(http.MethodGet, "/", withCookie("a=b; "+cookies[i])))
				if err == nil && (!a.IsUser(userName(i)+"@"+corpRealm) || a.Header.Get("Set-Cookie") != "") {
					err = fmt.Errorf("%s: %v, cookie %q", userName(i), a, a.Header.Get("Set-Cookie"))
				}
				return err
			})
		}
		if n := e.KDC.Counts(); n.ASReq != asked.ASReq || n.S4U2Self != 0 || n.S4U2Proxy != users {
			t.Errorf("%d logins, %d tickets by protocol transition and %d to the service", n.ASReq-asked.ASReq, n.S4U2Self, n.S4U2Proxy)
		}
		select {
		case cookie := <-seen:
			t.Errorf("the upstream got %q", cookie)
		default:
		}
		for _, cookie := range cookies {
			if _, value, _ := strings.Cut(cookie, "="); e.Log.Contains(value) {
				t.Fatal("a cookie is in the log")
			}
		}
		t.Logf("%d users over two reloads: no user signed in again", users)
	}
}

func TestSession_NotGood(t *testing.T) {
	e := newSignInEnv(t, caddytest.Options{})
	e.runSession("session 8h {\nidle 1h\n}")
	cookie := e.begin(e.user("alice"))
	e.Get("/", withCookie(cookie)).WantUser(t, "alice@"+corpRealm)
	name, value, _ := strings.Cut(cookie, "=")
	for what, request := range map[string]func(*http.Request){
		"changed":      withCookie(name + "=" + value[:40] + "AAAA" + value[44:]),
		"empty":        withCookie(name + "="),
		"another name": withCookie("negotiate=" + value),
		"another site": func(r *http.Request) { r.Host = "other.example.com"; r.Header.Set("Cookie", cookie) },
	} {
		if a := e.Get("/", request); a.Status != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != "Negotiate" {
			t.Errorf("%s: %v", what, a)
		}
	}
	// Another block is another session: here by its duration.
	e.runSession("session 7h {\nidle 1h\n}")
	if a := e.Get("/", withCookie(cookie)); a.Status != http.StatusUnauthorized {
		t.Errorf("another block: %v", a)
	}
}

// The user's ticket is in the memory of the process only, and neither it nor the cookie is shown.
func TestSession_TicketNotStored(t *testing.T) {
	e := newSignInEnv(t, caddytest.Options{})
	caddytest.Load(t, e.Global("DEBUG", e.identity("ticket_store storage"))+
		caddytest.Site(e.Addr, "log", "log_append user caddy_negotiate.user", caddytest.Block(signIn, "spn "+proxySPN, "session"), e.byTicket()))
	alice := e.user("alice")
	cookie := e.begin(alice)
	e.Get("/", withCookie(cookie)).WantUser(t, "alice@"+corpRealm)
	ticket, key := alice.Ticket.Ticket, alice.Ticket.Key.Bytes()
	secrets := []string{strings.TrimPrefix(cookie, "__Host-negotiate=")}
	for _, secret := range [][]byte{ticket[len(ticket)-48:], key} {
		secrets = append(secrets, string(secret), hex.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret), fmt.Sprint(secret))
	}
	caddytest.WaitFor(t, "the access log has the user", func() bool { return e.Log.Contains(`"user":"alice@` + corpRealm + `"`) })
	caddytest.WaitFor(t, "tickets are stored", func() bool {
		stored, _ := os.ReadDir(e.Storage() + "/kerberos/tickets")
		return len(stored) > 0
	})
	places := map[string]string{"the log": e.Log.String()}
	must.Do(t, filepath.WalkDir(e.Storage(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			places[path] = caddytest.ReadFile(t, path)
		}
		return err
	}))
	for place, text := range places {
		for i, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s has secret %d", place, i)
			}
		}
	}
	if len(places) < 3 { // the log, the sessions' keys, a ticket
		t.Errorf("%d places were searched", len(places))
	}
}

// A token next to a cookie wins, good or not.
func TestSession_TokenWins(t *testing.T) {
	e := newSignInEnv(t, caddytest.Options{})
	e.runSession("session")
	alice, bob := e.user("alice"), e.user("bob")
	cookie := e.begin(alice)
	a := e.Get("/", withCookie(cookie), bob.SignIn)
	a.WantUser(t, "bob@"+corpRealm)
	e.Get("/", withCookie(sessionCookie(t, a))).WantUser(t, "bob@"+corpRealm)
	a = e.Get("/", withCookie(cookie), func(r *http.Request) { r.Header.Set("Authorization", "Negotiate AAAA") })
	if a.Status != http.StatusUnauthorized {
		t.Errorf("a bad token next to a good cookie: %v", a)
	}
}

// Groups and realms are judged at each request of a session: after they have changed, users who are
// out of them are out, though another block's cookie would be needed as well.
func TestSession_Groups(t *testing.T) {
	e := newSignInEnv(t, caddytest.Options{})
	e.Realm.IssuePACs()
	site := func(rule string) []string {
		return []string{caddytest.Block(signIn, "spn "+proxySPN, rule, "session"), `respond "{http.auth.user.id} {http.auth.user.sid} {http.auth.user.groups}"`}
	}
	load(&e.Caddy, e.identity(), site("allow_groups S-1-5-21-1-2-3-513")...)
	alice := e.user("alice")
	first := e.Get("/", alice.SignIn)
	cookie := sessionCookie(t, first)
	if a := e.Get("/", withCookie(cookie)); a.Status != http.StatusOK || a.Body != first.Body || !strings.Contains(a.Body, "S-1-5-21-1-2-3-513") {
		t.Errorf("%v, want %v", a, first)
	}
	load(&e.Caddy, e.identity(), site("deny_groups *-513")...)
	if a := e.Get("/", alice.SignIn); a.Status != http.StatusForbidden || a.Header.Get("Set-Cookie") != "" {
		t.Errorf("a user of a denied group: %v", a)
	}
}

// Signing off drops the user's ticket: a copied cookie still says who the user is, and is of no use
// where the user is to be impersonated.
func TestSession_SignOff(t *testing.T) {
	e := newSignInEnv(t, caddytest.Options{})
	load(&e.Caddy, e.identity(), caddytest.Block(signIn, "spn "+proxySPN, caddytest.Block("session", "sign_off /bye")),
		`respond /who "{http.auth.user.id}"`, e.byTicket())
	alice := e.user("alice")
	cookie := e.begin(alice)
	if a := e.Get("/bye", withCookie(cookie)); a.Status != http.StatusOK || !strings.HasPrefix(a.Header.Get("Set-Cookie"), "__Host-negotiate=; Path=/; Max-Age=0") {
		t.Errorf("%v, cookie %q", a, a.Header.Get("Set-Cookie"))
	}
	if a := e.Get("/who", withCookie(cookie)); a.Body != "alice@"+corpRealm {
		t.Errorf("with the copied cookie: %v", a)
	}
	a := e.Get("/", withCookie(cookie))
	if a.Status != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != "Negotiate" || a.Word() != "user_missing" {
		t.Errorf("impersonated with the copied cookie: %v, %v", a, a.Header)
	}
	e.Get("/", withCookie(cookie), alice.SignIn).WantUser(t, "alice@"+corpRealm)
	if a := e.Get("/", withCookie(cookie)); a.Status != http.StatusUnauthorized {
		t.Errorf("impersonated with the copied cookie after the user has signed in again: %v", a)
	}
}

// No cache that users share keeps an answer that has a cookie, whatever the upstream says, and interim
// answers have none.
func TestSession_Caches(t *testing.T) {
	e := newSignInEnv(t, caddytest.Options{})
	public := caddytest.Serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		w.WriteHeader(http.StatusEarlyHints)
		fmt.Fprint(w, "hello")
	})})
	load(&e.Caddy, e.identity(), caddytest.Block(signIn, "spn "+proxySPN, "session"), "reverse_proxy "+public)
	interim := make(http.Header)
	trace := &httptrace.ClientTrace{Got1xxResponse: func(_ int, header textproto.MIMEHeader) error {
		interim = http.Header(header)
		return nil
	}}
	request := e.Request(http.MethodGet, "/", e.user("alice").SignIn)
	a := caddytest.Do(t, request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
	if got := a.Header.Values("Cache-Control"); a.Body != "hello" || !slices.Equal(got, []string{"public, max-age=60", "private"}) {
		t.Errorf("with the cookie: %v, %q", a, got)
	}
	if interim.Get("Cache-Control") == "" || interim.Get("Set-Cookie") != "" {
		t.Errorf("the interim answer: %v", interim)
	}
	a = e.Get("/", withCookie(sessionCookie(t, a)))
	if got := a.Header.Values("Cache-Control"); !slices.Equal(got, []string{"public, max-age=60"}) {
		t.Errorf("without one: %v, %q", a, got)
	}
}

// An upstream that error pages come from does not get the cookie of a client that is refused.
func TestSession_ErrorPages(t *testing.T) {
	e := newSignInEnv(t, caddytest.Options{})
	cookies := caddytest.Serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("Cookie"))
	})})
	site := func(rule string) {
		load(&e.Caddy, e.identity(), caddytest.Block(signIn, "spn "+proxySPN, rule, "session"), "respond ok",
			caddytest.Block("handle_errors", "reverse_proxy "+cookies))
	}
	site("")
	alice := e.user("alice")
	cookie := withCookie("a=b; " + e.begin(alice))
	ntlm := func(r *http.Request) { r.Header.Set("Authorization", "NTLM x") }
	if a := e.Get("/", cookie, ntlm); a.Body != "a=b" {
		t.Errorf("with NTLM: %v", a)
	}
	site("realms ELSEWHERE.EXAMPLE")
	if a := e.Get("/", cookie, alice.SignIn); a.Body != "a=b" {
		t.Errorf("denied: %v", a)
	}
}

// Where two blocks sign users in, the placeholders are all the last one's user's.
func TestSession_TwoBlocks(t *testing.T) {
	const who = `respond "{http.auth.user.id} {http.auth.user.groups}"`
	e := newSignInEnv(t, caddytest.Options{})
	e.Realm.IssuePACs()
	e.Realm.AddUser("erin", "x", kdctest.MemberOf(1104))
	block := func(cookie string) string {
		return caddytest.Block(signIn, "spn "+proxySPN, caddytest.Block("session", "cookie "+cookie))
	}
	begin := func(cookie, name string) string {
		load(&e.Caddy, e.identity(), block(cookie), who)
		set, _, _ := strings.Cut(e.Get("/", e.user(name).SignIn).Header.Get("Set-Cookie"), ";")
		return set
	}
	first, last := begin("first", "erin"), begin("last", "bob")
	load(&e.Caddy, e.identity(), block("first"), caddytest.Block("route", block("last"), who))
	if a := e.Get("/", withCookie(first+"; "+last)); a.Body != "bob@"+corpRealm+" S-1-5-21-1-2-3-513,S-1-18-2" {
		t.Errorf("bob is %v", a)
	}
}

// The form that a user sends after the end of their session, or of their ticket, is not lost: nothing
// of it reaches the upstream, and the client sends the whole again with a token.
func TestSession_FormNotLost(t *testing.T) {
	const form = "comment=two+words"
	e := newSignInEnv(t, caddytest.Options{Upstream: kdctest.UpstreamConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		peer, _ := kdctest.PeerFrom(r.Context())
		fmt.Fprintf(w, "%s %s %v", peer.Principal, body, err)
	})}})
	load(&e.Caddy, e.identity(), caddytest.Block(signIn, "spn "+proxySPN, caddytest.Block("session", "sign_off /bye")), e.byTicket())
	alice := e.user("alice")
	gone := e.begin(alice)
	send := func(cookie string, change ...func(*http.Request)) caddytest.Answer {
		return caddytest.Do(t, e.Request(http.MethodPost, "/form", append(change, withCookie(cookie), func(r *http.Request) {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(form)), int64(len(form))
		})...))
	}
	for what, cookie := range map[string]string{"a session that has ended": "__Host-negotiate=x", "a ticket that is gone": gone} {
		e.Get("/bye", withCookie(gone))
		before := e.Acceptor.Counts()
		if a := send(cookie); a.Status != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != "Negotiate" {
			t.Errorf("%s: %v", what, a)
		}
		if n := e.Acceptor.Counts(); n.Accepted != before.Accepted || n.Missing != before.Missing {
			t.Errorf("%s: the upstream got the form of a user who is not signed in", what)
		}
		if a := send(cookie, alice.SignIn); a.Status != http.StatusOK || a.Body != "alice@"+corpRealm+" "+form+" <nil>" {
			t.Errorf("%s: %v", what, a)
		}
	}
}

// The cookie must not travel in the clear.
func TestSession_NeedsTLS(t *testing.T) {
	e := newSignInEnv(t, caddytest.Options{})
	site := func(address, bind string) string {
		return e.Global("INFO", e.identity()) + caddytest.Block(address, bind, caddytest.Block(signIn, "spn "+proxySPN, "session"), "respond ok")
	}
	port := caddytest.Port(e.Addr)
	err := caddytest.TryLoad(t, site("http://:"+port, ""))
	if err == nil || !strings.Contains(err.Error(), "session") || !strings.Contains(err.Error(), "https") {
		t.Errorf("on all addresses without TLS: %v", err)
	}
	caddytest.Load(t, site("http://:"+port, "bind 127.0.0.1"))
	caddytest.Load(t, site("https://app.example.com:"+port, "tls internal"))
}

// page has 30 images, and a form.
var page = template.Must(template.New("").Parse(`<!DOCTYPE html><link rel=icon href="data:,"><title>{{.Who}}</title>
<p id=who>{{.Who}}</p><form method=post action=/form><input name=comment value="two words"><button id=send>Send</button></form>
{{range $i, $_ := .Images}}<img src="/image/{{$i}}.svg" alt="">{{end}}`))

const images = 30

// pages serves the page, its images and its form.
func pages(w http.ResponseWriter, r *http.Request) {
	peer, _ := kdctest.PeerFrom(r.Context())
	switch {
	case strings.HasPrefix(r.URL.Path, "/image/"):
		w.Header().Set("Content-Type", "image/svg+xml")
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, `<svg xmlns="http://www.w3.org/2000/svg"/>`)
	case r.Method == http.MethodPost:
		fmt.Fprintf(w, `<!DOCTYPE html><link rel=icon href="data:,"><p id=sent>%s: %s</p>`, peer.User, template.HTMLEscapeString(r.PostFormValue("comment")))
	default:
		_ = page.Execute(w, map[string]any{"Who": peer.Principal, "Images": make([]struct{}, images)})
	}
}

// served counts the requests that Caddy has answered since, by status.
func (e *env) served(since int) (all, unauthorized int) {
	for raw := range strings.Lines(e.Log.String()[since:]) {
		var line struct {
			Msg    string
			Status int
		}
		if json.Unmarshal([]byte(raw), &line) == nil && line.Msg == "handled request" {
			all++
			if line.Status == http.StatusUnauthorized {
				unauthorized++
			}
		}
	}
	return all, unauthorized
}

// kinit logs a user in with MIT's tool.
func (e *env) kinit(krb5Conf, ccache, name, password string) {
	e.T.Helper()
	cmd := exec.CommandContext(e.T.Context(), "kinit", "-c", "FILE:"+ccache, name)
	cmd.Env, cmd.Stdin = append(os.Environ(), "KRB5_CONFIG="+krb5Conf), strings.NewReader(password+"\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		e.T.Fatalf("kinit: %v\n%s", err, out)
	}
}

// A browser loads a page with 30 images: without sessions it is asked for a token for each of them.
func TestSession_Browser(t *testing.T) {
	lab.Require(t, lab.Chromium, lab.Krb5User)
	e := newSignInEnv(t, caddytest.Options{
		Proxy:    []kdctest.Option{kdctest.SPN(proxySPN, "HTTP/localhost"), kdctest.DelegateTo(webSPN)},
		Upstream: kdctest.UpstreamConfig{Handler: http.HandlerFunc(pages)},
	})
	cert := caddytest.NewAuthority(t).Server("localhost")
	certFile, keyFile := e.Write("cert.pem", caddytest.CertPEM(cert)), e.Write("key.pem", caddytest.KeyPEM(t, cert))
	krb5 := e.Write("krb5.conf", []byte(e.KDC.Krb5Conf("forwardable = true", "udp_preference_limit = 1")))
	ccache := e.Dir + "/ccache"
	e.kinit(krb5, ccache, "alice", "x")
	url := "https://localhost:" + caddytest.Port(e.Addr)
	run := func(session string) {
		t.Helper()
		caddytest.Load(t, e.Global("INFO", e.identity())+caddytest.Block(url, "bind 127.0.0.1", "tls "+certFile+" "+keyFile, "log",
			caddytest.Block(signIn, "spn HTTP/localhost", session), e.byTicket()))
	}
	b := lab.StartBrowser(t, []string{"--auth-server-allowlist=localhost", "--ignore-certificate-errors"}, "KRB5_CONFIG="+krb5, "KRB5CCNAME=FILE:"+ccache)
	visit := func() (all, unauthorized int) {
		t.Helper()
		since := 0
		// On Linux the first page of a new profile fails: then Chromium loads the Kerberos library.
		caddytest.WaitFor(t, "the page shows the user", func() bool {
			since = len(e.Log.String())
			b.Open(url + "/")
			return b.Text("#who") == "alice@"+corpRealm
		})
		caddytest.WaitFor(t, "the page and its images are served", func() bool {
			all, unauthorized = e.served(since)
			return all-unauthorized >= 1+images
		})
		return all, unauthorized
	}
	run("")
	all, unauthorized := visit()
	t.Logf("without session: %d requests, of which %d are 401", all, unauthorized)
	run(caddytest.Block("session", "sign_off /bye"))
	all, unauthorized = visit()
	t.Logf("with session, first page: %d requests, of which %d are 401", all, unauthorized)
	if all, unauthorized = visit(); all != 1+images || unauthorized != 0 {
		t.Errorf("with session: %d requests, of which %d are 401", all, unauthorized)
	}
	// The form is sent again with a token when its first sending finds no ticket here.
	scripts := ""
	b.Script("return document.cookie", &scripts)
	var cookies []struct{ Name, Value string }
	b.Call(http.MethodGet, "/cookie", nil, &cookies)
	if scripts != "" || len(cookies) != 1 {
		t.Fatalf("%d cookies, of which scripts can read %q", len(cookies), scripts)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	off := caddytest.Request(t, http.MethodGet, url+"/bye", withCookie(cookies[0].Name+"="+cookies[0].Value))
	if a := must.OK(caddytest.Ask(client, off))(t); a.Status != http.StatusOK {
		t.Fatal(a)
	}
	b.Click("#send")
	b.Want("#sent", "alice: two words")
}
