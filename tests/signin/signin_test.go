package signin

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestSignIn(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.load(e.auth(spnLine), who)
	wantChallenge(t, e.get())
	alice := e.user("alice")
	a := e.get(alice.SignIn)
	alice.WantProof(a)
	wantUser(t, a, "alice")
	id := strings.Fields(a.Body)
	if len(id) != 6 || id[1] != "alice" || id[2] != realmName || !strings.HasPrefix(id[3], "S-1-5-21-1-2-3-") ||
		id[4] != "S-1-5-21-1-2-3-513,S-1-5-21-1-2-3-1104,S-1-18-2" || id[5] != "[]" {
		t.Errorf("placeholders %q", a.Body)
	}
	wantUser(t, e.get(e.user("bob").SignIn), "bob")
	// Chromium does not ask for mutual authentication, and gets a final answer all the same.
	a = e.get(alice.With(caddytest.Authenticator{NoMutual: true}))
	wantUser(t, a, "alice")
	if got := a.Header.Get("WWW-Authenticate"); len(got) < len("Negotiate ")+20 {
		t.Errorf("answer %q", got)
	}
	a = e.get(alice.With(caddytest.Authenticator{Bare: true}))
	wantUser(t, a, "alice")
	e.WantCounts(2, 2) // those of alice and bob: the proxy itself does not log in
}

// MIT's KDC issues no PAC that has groups.
func TestSignIn_NoPAC(t *testing.T) {
	e := &env{Env: caddytest.NewEnv(t, caddytest.Options{Proxy: []kdctest.Option{kdctest.SPN(service)}}), users: make(map[string]*caddytest.User)}
	e.Realm.AddUser("alice", password)
	e.load(e.auth(spnLine), who)
	a := e.get(e.user("alice").SignIn)
	if a.Body != "alice@CORP.EXAMPLE alice CORP.EXAMPLE   []" {
		t.Errorf("got %v", a)
	}
	for _, rule := range []string{"allow_groups *", "deny_groups S-1-5-32-544"} {
		e.load(e.auth(spnLine, rule), who)
		if a := e.get(e.user("alice").SignIn); a.Status != http.StatusForbidden {
			t.Errorf("%s: %v", rule, a)
		}
	}
	e.wantLogged("user may not enter", "no PAC that names groups", "alice@CORP.EXAMPLE")
}

// The proof is on the final answer whatever other handlers write, and in whatever way.
func TestSignIn_ProofWithEveryAnswer(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	alice := e.user("alice")
	plain := caddytest.Serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Values("Authorization")) > 0 {
			t.Errorf("the upstream of %s sees the client's Authorization", r.URL)
		}
		switch r.URL.Path {
		case "/hints":
			w.WriteHeader(http.StatusEarlyHints)
		case "/flush":
			_ = http.NewResponseController(w).Flush()
		case "/empty":
			return
		}
		fmt.Fprint(w, "hello")
	})})
	for name, proxy := range map[string]string{
		"respond":       "respond hello",
		"error":         "error 404",
		"reverse_proxy": "reverse_proxy " + plain,
		"transport negotiate": caddytest.Block("reverse_proxy "+e.Upstream.Addr(),
			caddytest.Block("transport negotiate", e.Login("spn "+caddytest.Service)...)),
		"negotiate": caddytest.Block("negotiate", e.Login("spn "+caddytest.Service, "mutual_auth required")...) + "\nreverse_proxy " + e.Upstream.Addr(),
	} {
		t.Run(name, func(t *testing.T) {
			e := *e
			e.Caddy = caddytest.New(t)
			e.load(e.auth(spnLine), proxy)
			for _, path := range []string{"/", "/hints", "/flush", "/empty"} {
				a := e.Get(path, from(newAddress()), alice.SignIn)
				if a.Status == http.StatusUnauthorized || a.Status >= 500 {
					t.Fatalf("%s: %v", path, a)
				}
				alice.WantProof(a)
			}
		})
	}
}

func TestMatcher_BasicAuthForOthers(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	domain := newAddress()
	e.load("@domain client_ip "+domain, "@others not client_ip "+domain,
		caddytest.Block("negotiate_auth @domain", e.Login(spnLine)...),
		caddytest.Block("basic_auth @others", "carol "+hash(t, "secret")), who)
	wantChallenge(t, e.Get("/", from(domain)))
	wantUser(t, e.Get("/", from(domain), e.user("alice").SignIn), "alice")
	a := e.get()
	if got := a.Header.Values("WWW-Authenticate"); a.Status != http.StatusUnauthorized || len(got) != 1 || !strings.HasPrefix(got[0], "Basic ") {
		t.Errorf("others get %v, %q", a, got)
	}
	if a = e.get(func(r *http.Request) { r.SetBasicAuth("carol", "secret") }); !strings.HasPrefix(a.Body, "carol ") {
		t.Errorf("carol gets %v", a)
	}
	if a = e.get(e.user("alice").SignIn); a.Status != http.StatusUnauthorized {
		t.Errorf("a ticket from elsewhere: %v", a)
	}
}

// A token is good once, so a second block cannot work: the log says what to do.
func TestSignIn_TwoBlocks(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.load(e.auth(spnLine), caddytest.Block("route /admin/*", e.auth(spnLine, "allow_groups *-1104"), who), who)
	alice := e.user("alice")
	wantUser(t, e.get(alice.SignIn), "alice")
	for range 2 {
		if a := e.Get("/admin/x", from(newAddress()), alice.SignIn); a.Status != http.StatusUnauthorized {
			t.Errorf("got %v", a)
		}
	}
	e.wantLogged("two negotiate_auth blocks run on one request", "exclude each other")
	if n := strings.Count(e.Log.String(), "two negotiate_auth blocks"); n != 1 {
		t.Errorf("warned %d times", n)
	}
}

func hash(t *testing.T, password string) string {
	t.Helper()
	hashed, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hashed)
}

// One token of each client on one connection, which stands for none of them.
func TestSignIn_ManyUsersOverOneConnection(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.load(e.auth(spnLine), who)
	client := e.Client()
	for i := range 20 {
		name := []string{"alice", "bob"}[i%2]
		a, err := caddytest.Ask(client, e.Request(http.MethodGet, "/", from(newAddress()), e.user(name).SignIn))
		if err != nil {
			t.Fatal(err)
		}
		wantUser(t, a, name)
		if a, err = caddytest.Ask(client, e.Request(http.MethodGet, "/", from(newAddress()))); err != nil {
			t.Fatal(err)
		}
		wantChallenge(t, a)
	}
}

func TestHandleErrors(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.load(e.auth(spnLine, "realms ELSEWHERE.EXAMPLE"), who)
	if a := e.get(); a.Status != http.StatusUnauthorized || !strings.HasPrefix(a.Body, "401") {
		t.Errorf("without a token: %v", a)
	}
	if a := e.get(e.user("alice").SignIn); a.Status != http.StatusForbidden || !strings.HasPrefix(a.Body, "403") {
		t.Errorf("denied: %v", a)
	}
	// For 429 and 503 see TestThrottle and TestPassword_KDCDown.
}

func TestAuthorization_OtherSchemes(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.load(e.auth(spnLine), who)
	token := base64.StdEncoding.EncodeToString(e.user("alice").Token(caddytest.Authenticator{}))
	for _, value := range []string{"Basic YTpi", "Bearer x", "Negotiate", "negotiate ", "Kerberos " + token} {
		wantChallenge(t, e.get(func(r *http.Request) { r.Header.Set("Authorization", value) }))
	}
	wantUser(t, e.get(func(r *http.Request) { r.Header.Set("Authorization", "nEGOTIATE "+token) }), "alice")
	wantChallenge(t, e.get(func(r *http.Request) { r.Header["Authorization"] = []string{"Negotiate " + token, "Basic YTpi"} }))
}
