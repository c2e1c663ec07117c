package delegation

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

// gateway is what forward_auth asks: it knows who has which cookie, and lets some in
// whom it gives no name.
func gateway(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookie, _ := r.Cookie("session")
		switch {
		case cookie == nil:
			http.Error(w, "sign in first", http.StatusUnauthorized)
		case cookie.Value == "anonymous":
		default:
			// A cookie cannot hold a backslash.
			w.Header().Set("Remote-User", strings.Replace(cookie.Value, ":", `\`, 1))
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func cookie(session string) func(*http.Request) {
	return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "session", Value: session}) }
}

func TestImpersonate_ForgedGatewayHeader(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	load(&e.Caddy, "", caddytest.Block("forward_auth "+gateway(t), "uri /verify", "copy_headers Remote-User"),
		caddytest.Block("reverse_proxy "+e.Upstream.Addr(), e.transport("spn "+webSPN, "impersonate {http.request.header.Remote-User}", "trust_header Remote-User")))
	forgeries := map[string]func(*http.Request){
		"nothing":            func(*http.Request) {},
		"forged":             func(r *http.Request) { r.Header.Set("Remote-User", "bob") },
		"forged twice":       func(r *http.Request) { r.Header["Remote-User"] = []string{"bob", "carol"} },
		"in another case":    func(r *http.Request) { r.Header["remote-user"] = []string{"bob"} },
		"with an underscore": func(r *http.Request) { r.Header["Remote_User"] = []string{"bob"} },
		"hop by hop": func(r *http.Request) {
			r.Header.Set("Remote-User", "bob")
			r.Header.Set("Connection", "Remote-User")
		},
		"in a trailer": func(r *http.Request) {
			r.Method, r.Body, r.ContentLength = http.MethodPost, http.NoBody, -1
			r.Trailer = http.Header{"Remote-User": {"bob"}}
		},
	}
	for what, forge := range forgeries {
		if a := e.Get("/", forge); a.Status != http.StatusUnauthorized {
			t.Errorf("%s, not signed in: %v", what, a)
		}
		a := e.Get("/", cookie("alice"), forge)
		if a.Status != http.StatusOK || strings.TrimSpace(a.Body) != "alice@"+corpRealm {
			t.Errorf("%s, signed in: %v", what, a)
		}
		e.Get("/", cookie("anonymous"), forge).WantError(t, http.StatusForbidden, "user_missing", "")
	}
}

func TestImpersonate_AuthProvider(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	load(&e.Caddy, "", basicAuth(t, "alice", "bob", `CORP.EXAMPLE\carol`, "bob@elsewhere"),
		caddytest.Block("reverse_proxy "+e.Upstream.Addr(), e.transport("spn "+webSPN, byProvider)))
	for name, want := range map[string]string{"alice": "alice", "bob": "bob", `CORP.EXAMPLE\carol`: "carol"} {
		e.Get("/", signedIn(name), asUser("bob")).WantUser(t, want+"@"+corpRealm)
	}
	e.Get("/", signedIn("bob@elsewhere")).WantError(t, http.StatusForbidden, "user_unknown", "6")
	if a := e.Get("/", asUser("alice")); a.Status != http.StatusUnauthorized {
		t.Errorf("no user signed in: %v", a)
	}
}

func TestImpersonate_SourceCheckedAtLoad(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	for lines, want := range map[string]string{
		"impersonate {http.auth.user.id}":                                                         "",
		"impersonate {http.request.tls.client.san.emails.0}":                                      "",
		"impersonate {http.auth.user.id}@corp.example":                                            "",
		"impersonate {http.request.header.X-User}\ntrust_header x-user":                           "",
		"impersonate {header.X-User}\ntrust_header X-User":                                        "",
		"impersonate {http.request.header.X-User}":                                                "any client can send the header X-User",
		"impersonate {http.request.header.X-User}\ntrust_header X-Other":                          "any client can send the header X-User",
		"impersonate {http.request.header.X-User}{http.request.header.X-B}\ntrust_header X-B":     "any client can send the header X-User",
		"impersonate {http.auth.user.id}\ntrust_header X-User":                                    "trust_header X-User is set, but impersonate does not use it",
		"impersonate {query.user}":                                                                "depends on what clients send",
		"impersonate {http.request.cookie.user}":                                                  "depends on what clients send",
		"impersonate {http.regexp.name.1}":                                                        "depends on what clients send",
		"impersonate {vars.user}":                                                                 "depends on what clients send",
		"impersonate {user_of_a_map}":                                                             "depends on what clients send",
		"impersonate {http.request.host}":                                                         "depends on what clients send",
		"impersonate {http.auth.user.id}{query.user}":                                             "depends on what clients send",
		"impersonate alice":                                                                       "is neither a placeholder nor client_ticket",
		"trust_header X-User":                                                                     "requires impersonate",
		"allow_users alice":                                                                       "requires impersonate",
		"user_realm BRANCH.EXAMPLE":                                                               "requires impersonate",
		"impersonate {http.auth.user.id}\ndelegate":                                               "remove one of them",
		"impersonate {http.auth.user.id}\ndelegate always":                                        "remove one of them",
		"impersonate {http.auth.user.id}\nper_connection":                                         "excludes impersonate",
		"impersonate {http.auth.user.id}\nversions 1.1 2":                                         "versions 1.1",
		"impersonate {http.auth.user.id}\nversions h2c":                                           "versions 1.1",
		"impersonate {http.auth.user.id}\nversions 3":                                             "versions 1.1",
		"impersonate {http.auth.user.id}\nversions 1.1":                                           "",
		"impersonate {http.auth.user.id}\nmutual_auth required":                                   "",
		"impersonate {http.auth.user.id}\ndeny_users CORP\\bob":                                   "CORP is not the NetBIOS name of a configured realm",
		"impersonate {http.auth.user.id}\ndeny_users corp.example\\bob *\\carol bob@mail.example": "",
		"impersonate {http.auth.user.id}\ndeny_users @":                                           "matches no user",
		"impersonate {http.auth.user.id}\nimpersonate {http.auth.user.id}":                        "set twice",
	} {
		err := caddytest.TryLoad(t, config(&e.Caddy, "", caddytest.Block("reverse_proxy "+e.Upstream.Addr(), e.transport("spn "+webSPN, lines))))
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", lines, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %s", lines, err, want)
		}
	}
	// The handler's connections are reverse_proxy's, and shared.
	err := caddytest.TryLoad(t, config(&e.Caddy, "", caddytest.Block("negotiate", "kdc "+e.KDC.Addr(), "user "+proxyName, "keytab "+e.Keytab, "spn "+webSPN, byHeader),
		"reverse_proxy "+e.Upstream.Addr()))
	if err == nil || !strings.Contains(err.Error(), "impersonate") {
		t.Errorf("impersonate in the handler: %v", err)
	}
}
