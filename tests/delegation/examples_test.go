package delegation

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const root = "../.."

// example is a file of examples with this domain's addresses in it.
func (e *env) example(name string, more ...string) string {
	e.T.Helper()
	text, err := os.ReadFile(root + "/examples/" + name)
	if err != nil {
		e.T.Fatal(err)
	}
	hash := strings.Fields(basicAuth(e.T, "alice"))[3]
	replace := append([]string{
		"dc1.corp.example dc2.corp.example", e.KDC.Addr(),
		"https://iis.corp.example", e.Upstream.Addr(),
		"/etc/caddy/svc-proxy.keytab", e.Keytab,
		"transport negotiate {", "transport negotiate {\nspn " + webSPN,
		"$2a$14$iwVZwgJTQkZ3Cx0hGBIYbu4UhRIjcmLNdgTxRWU6UEGzqCE1yVXgW", hash,
		"\t\t\ttls_trust_pool file /etc/caddy/corp-ca.pem\n", "",
	}, more...)
	out := strings.NewReplacer(replace...).Replace(string(text))
	global := strings.TrimSuffix(strings.TrimPrefix(e.Global("INFO"), "{"), "}\n")
	if strings.Contains(out, "\n{\n") {
		return strings.Replace(out, "\n{\n", "\n{\n"+global, 1)
	}
	return "{\n" + global + "}\n" + out
}

func TestExample_BasicAuth(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	caddytest.Load(t, e.example("delegation/basic_auth.caddyfile", "app.example.com {", "http://"+e.Addr+" {\nbind 127.0.0.1"))
	for _, name := range []string{"alice", "bob", "alice"} {
		e.Get("/", signedIn(name)).WantUser(t, name+"@"+corpRealm)
	}
}

func TestExample_ForwardAuth(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	for _, name := range []string{"administrator", "svc-backup", "DC1$"} {
		e.Realm.AddUser(name, "x")
	}
	caddytest.Load(t, e.example("delegation/forward_auth.caddyfile", "app.example.com {", "http://"+e.Addr+" {\nbind 127.0.0.1",
		"gateway.example.com:9091", gateway(t)))
	e.Get("/", cookie("alice")).WantUser(t, "alice@"+corpRealm)
	e.Get("/", cookie("CORP:bob")).WantUser(t, "bob@"+corpRealm)
	for _, name := range []string{"Administrator", "CORP:administrator", "administrator@corp.example", "svc-backup", "dc1$"} {
		if a := e.Get("/", cookie(name)); a.Status != http.StatusForbidden || !strings.Contains(a.Body, "(user_denied)") {
			t.Errorf("%s: %v", name, a)
		}
	}
}

func TestExample_SingleSignOn(t *testing.T) {
	e := newSignInEnv(t, caddytest.Options{})
	caddytest.Load(t, e.example("single-sign-on/Caddyfile", "app.example.com {", "http://"+e.Addr+" {\nbind 127.0.0.1",
		"HTTP/app.example.com", proxySPN, "transport negotiate intranet {", "transport negotiate intranet {\nspn "+webSPN))
	for _, name := range []string{"alice", "bob"} {
		cookie := e.begin(e.user(name))
		e.Get("/", withCookie(cookie)).WantUser(t, name+"@"+corpRealm)
	}
	if a := e.Get("/"); a.Status != http.StatusUnauthorized {
		t.Errorf("without a ticket: %v", a)
	}
}

// oauth2-proxy answers 202 with the claim in a header to who has its cookie or a good token, else 401.
func oauth2Proxy(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, program := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer of ")
		if cookie, err := r.Cookie("_oauth2_proxy"); err == nil {
			name, program = cookie.Value, true
		}
		switch {
		case r.URL.Path == "/oauth2/sign_in":
			_, _ = io.WriteString(w, "sign in")
		case r.URL.Path != "/oauth2/auth" || !program:
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
		default:
			w.Header().Set("X-Auth-Request-Email", name)
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestExample_OpenIDConnect(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	for _, name := range []string{"alice", "bob", "administrator"} {
		if e.Realm.Principal(name) == nil {
			e.Realm.AddUser(name, "x")
		}
		e.Realm.Principal(name).Set(kdctest.Alias(name + "@corp.example"))
	}
	caddytest.Load(t, e.example("delegation/openid_connect.caddyfile", "app.example.com {", "http://"+e.Addr+" {\nbind 127.0.0.1", "127.0.0.1:4180", oauth2Proxy(t)))
	browser := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "_oauth2_proxy", Value: name}) }
	}
	program := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer of "+name) }
	}
	forged := func(r *http.Request) { r.Header.Set("X-Auth-Request-Email", "bob@corp.example") }

	e.Get("/", browser("alice@corp.example"), forged).WantUser(t, "alice@"+corpRealm)
	e.Get("/", program("bob@corp.example")).WantUser(t, "bob@"+corpRealm)
	if a := e.Get("/", forged); a.Status != http.StatusFound || !strings.HasPrefix(a.Header.Get("Location"), "/oauth2/sign_in?rd=http://") {
		t.Errorf("without a session: %v, to %s", a, a.Header.Get("Location"))
	}
	if a := e.Get("/oauth2/sign_in"); a.Body != "sign in" {
		t.Errorf("the page to sign in: %v", a)
	}
	for _, name := range []string{"administrator@corp.example", "alice@elsewhere.example"} {
		if a := e.Get("/", browser(name)); a.Status != http.StatusForbidden {
			t.Errorf("%s: %v", name, a)
		}
	}
}

func TestExample_ClientCertificates(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	for _, name := range []string{"alice", "bob"} {
		e.Realm.Principal(name).Set(kdctest.Alias(name + "@corp.example"))
	}
	ca := caddytest.NewAuthority(t)
	server := ca.Server("app.example.com")
	caFile, certFile := e.Write("ca.pem", ca.PEM()), e.Write("cert.pem", caddytest.CertPEM(server))
	keyFile := e.Write("key.pem", caddytest.KeyPEM(t, server))
	port := caddytest.Port(e.Addr)
	// Longer patterns first: the replacer takes the first that fits.
	caddytest.Load(t, e.example("delegation/client_certificates.caddyfile",
		"app.example.com {\n\ttls {", "https://app.example.com:"+port+" {\nbind 127.0.0.1\ntls "+certFile+" "+keyFile+" {",
		"/etc/caddy/corp-ca.pem", caFile))
	trusted := x509.NewCertPool()
	trusted.AddCert(ca.Cert)
	get := func(shown ...tls.Certificate) (caddytest.Answer, error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, ServerName: "app.example.com", Certificates: shown}}
		defer transport.CloseIdleConnections()
		r := e.Request(http.MethodGet, "/")
		r.URL.Scheme, r.Host = "https", "app.example.com:"+port
		return caddytest.Ask(&http.Client{Transport: transport}, r)
	}
	for _, name := range []string{"alice", "bob", "alice"} {
		a, err := get(*ca.Client(name + "@corp.example"))
		if err != nil {
			t.Fatal(err)
		}
		a.WantUser(t, name+"@"+corpRealm)
	}
	if a, err := get(*ca.Client("administrator@corp.example")); err != nil || a.Status != http.StatusForbidden {
		t.Errorf("who is denied: %v, %v", a, err)
	}
	if a, err := get(*ca.Client("alice@mail.example")); err != nil || a.Status != http.StatusForbidden {
		t.Errorf("who is not allowed: %v, %v", a, err)
	}
	if a, err := get(*caddytest.NewAuthority(t).Client("alice@corp.example")); err == nil {
		t.Errorf("a certificate of another authority: %v", a)
	}
	if a, err := get(); err == nil {
		t.Errorf("no certificate: %v", a)
	}
}
