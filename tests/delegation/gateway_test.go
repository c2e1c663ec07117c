package delegation

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
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

func TestForgedGatewayHeaderIsNoUser(t *testing.T) {
	c := newCorp(t, setup{})
	c.load("", block("forward_auth "+gateway(t), "uri /verify", "copy_headers Remote-User"),
		block("reverse_proxy "+c.upstream.Addr(), c.transport("spn "+webSPN, "impersonate {http.request.header.Remote-User}", "trust_header Remote-User")))
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
		if a := c.get("/", forge); a.status != http.StatusUnauthorized {
			t.Errorf("%s, not signed in: %v", what, a)
		}
		a := c.get("/", cookie("alice"), forge)
		if a.status != http.StatusOK || strings.TrimSpace(a.body) != "alice@"+corpRealm {
			t.Errorf("%s, signed in: %v", what, a)
		}
		c.get("/", cookie("anonymous"), forge).wantError(t, http.StatusForbidden, "user_missing", "")
	}
}

func TestUsersOfProvidersAreTakenAsTheyAre(t *testing.T) {
	c := newCorp(t, setup{})
	c.load("", basicAuth(t, "alice", "bob", `CORP.EXAMPLE\carol`, "bob@elsewhere"),
		block("reverse_proxy "+c.upstream.Addr(), c.transport("spn "+webSPN, byProvider)))
	for name, want := range map[string]string{"alice": "alice", "bob": "bob", `CORP.EXAMPLE\carol`: "carol"} {
		c.get("/", signedIn(name), as("bob")).wantUser(t, want+"@"+corpRealm)
	}
	c.get("/", signedIn("bob@elsewhere")).wantError(t, http.StatusForbidden, "user_unknown", "6")
	if a := c.get("/", as("alice")); a.status != http.StatusUnauthorized {
		t.Errorf("nobody signed in: %v", a)
	}
}

func TestWhereTheUserComesFromIsCheckedAtLoad(t *testing.T) {
	c := newCorp(t, setup{})
	for lines, want := range map[string]string{
		"impersonate {http.auth.user.id}":                                                         "",
		"impersonate {http.request.tls.client.san.emails.0}":                                      "",
		"impersonate {http.auth.user.id}@corp.example":                                            "",
		"impersonate {http.request.header.X-User}\ntrust_header x-user":                           "",
		"impersonate {header.X-User}\ntrust_header X-User":                                        "",
		"impersonate {http.request.header.X-User}":                                                "any client can send the header X-User",
		"impersonate {http.request.header.X-User}\ntrust_header X-Other":                          "any client can send the header X-User",
		"impersonate {http.request.header.X-User}{http.request.header.X-B}\ntrust_header X-B":     "any client can send the header X-User",
		"impersonate {http.auth.user.id}\ntrust_header X-User":                                    "trust_header X-User is stated, but impersonate does not use it",
		"impersonate {query.user}":                                                                "can be chosen by clients",
		"impersonate {http.request.cookie.user}":                                                  "can be chosen by clients",
		"impersonate {http.regexp.name.1}":                                                        "can be chosen by clients",
		"impersonate {vars.user}":                                                                 "can be chosen by clients",
		"impersonate {user_of_a_map}":                                                             "can be chosen by clients",
		"impersonate {http.request.host}":                                                         "can be chosen by clients",
		"impersonate {http.auth.user.id}{query.user}":                                             "can be chosen by clients",
		"impersonate alice":                                                                       "is no placeholder",
		"trust_header X-User":                                                                     "needs impersonate beside it",
		"allow_users alice":                                                                       "needs impersonate beside it",
		"user_realm BRANCH.EXAMPLE":                                                               "needs impersonate beside it",
		"impersonate {http.auth.user.id}\ndelegate":                                               "drop one of them",
		"impersonate {http.auth.user.id}\ndelegate always":                                        "drop one of them",
		"impersonate {http.auth.user.id}\nper_connection":                                         "excludes impersonate",
		"impersonate {http.auth.user.id}\nversions 1.1 2":                                         "versions 1.1",
		"impersonate {http.auth.user.id}\nversions h2c":                                           "versions 1.1",
		"impersonate {http.auth.user.id}\nversions 3":                                             "versions 1.1",
		"impersonate {http.auth.user.id}\nversions 1.1":                                           "",
		"impersonate {http.auth.user.id}\nmutual_auth required":                                   "",
		"impersonate {http.auth.user.id}\ndeny_users CORP\\bob":                                   "whose NetBIOS name is CORP?",
		"impersonate {http.auth.user.id}\ndeny_users corp.example\\bob *\\carol bob@mail.example": "",
		"impersonate {http.auth.user.id}\ndeny_users @":                                           "names nobody",
		"impersonate {http.auth.user.id}\nimpersonate {http.auth.user.id}":                        "given twice",
	} {
		err := tryLoad(t, c.config("", block("reverse_proxy "+c.upstream.Addr(), c.transport("spn "+webSPN, lines))))
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", lines, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %s", lines, err, want)
		}
	}
	// The handler's connections are reverse_proxy's, and shared.
	err := tryLoad(t, c.config("", block("negotiate", "kdc "+c.kdc.Addr(), "user "+proxyName, "keytab "+c.keytab, "spn "+webSPN, byHeader),
		"reverse_proxy "+c.upstream.Addr()))
	if err == nil || !strings.Contains(err.Error(), "impersonate") {
		t.Errorf("impersonate in the handler: %v", err)
	}
}
