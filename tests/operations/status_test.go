package operations

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// statusSite is the example that shows the page to people who sign in, at a free address.
func statusSite(t *testing.T, admin string) (site, url string) {
	t.Helper()
	example, err := os.ReadFile("../../examples/status/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("open"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	address := caddytest.FreeAddress(t)
	text := strings.NewReplacer("status.corp.example {", "http://"+address+" {", "\ttls internal\n", "", "{$STATUS_HASH}", string(hash), "localhost:2019", admin).Replace(string(example))
	return "\n" + text, "http://admin:open@" + address
}

// The page in a browser: with the KDC up, down, and the account locked. The admin endpoint itself
// refuses browsers, so that it is seen through the site of the example.
func TestStatusPage_Browser(t *testing.T) {
	b := lab.StartBrowser(t, nil)
	s := newSite(t, caddytest.Options{})
	page, url := statusSite(t, s.admin)
	global := strings.Replace(s.Global("INFO", caddytest.Block("kerberos", s.identity("intranet"))), "admin off", "admin "+s.admin, 1)
	caddytest.Load(t, global+caddytest.Site(s.Addr, s.proxy("intranet"))+page)

	b.Open("http://" + s.admin + "/kerberos/")
	if source := b.Get("/source"); !strings.Contains(source, "client is not allowed to access from origin") {
		t.Errorf("the admin endpoint answers a browser (docs/admin.md says that it does not):\n%s", source)
	}
	b.Open(url + "/kerberos/")
	b.Want("#status", "1 identity, all ready")
	s.Get("/").WantUser(t, caddytest.Principal)
	b.Open(url + "/kerberos/")
	b.Want("h1", "Kerberos in Caddy")
	b.Want("h2", "intranet ready")
	if role := b.Get(b.Element("#status") + "/computedrole"); role != "status" {
		t.Errorf("the summary has the role %q", role)
	}
	if lang := b.Get("/title"); !strings.HasPrefix(lang, "Ready") {
		t.Errorf("the title is %q", lang)
	}
	b.Shoot("status-ready")

	s.Proxy.Set(kdctest.With(kdctest.Locked))
	s.ask(http.MethodPost, "/kerberos/flush")
	s.Get("/").WantError(t, http.StatusBadGateway, "credentials_refused")
	b.Open(url + "/kerberos/?refresh=off")
	b.Want("#status", "1 of 1 identity not ready")
	b.Want("h2", "intranet refused")
	b.Shoot("status-page")

	s.Proxy.Set(kdctest.Without(kdctest.Locked))
	s.ask(http.MethodPost, "/kerberos/flush")
	s.KDC.Stop()
	s.Get("/").WantError(t, http.StatusServiceUnavailable, "kdc_unreachable")
	b.Open(url + "/kerberos/")
	b.Want("h2", "intranet not ready")
	b.Want("td.bad", "does not answer")
	b.Resize(380, 900)
	b.Dark()
	if b.Overflows() {
		t.Error("the page is wider than a telephone")
	}
	b.Shoot("status-narrow")

	// Nothing else of the endpoint is shown, and nothing without a password.
	if a := caddytest.Do(t, caddytest.Request(t, http.MethodGet, strings.Replace(url, "admin:open@", "", 1)+"/kerberos/")); a.Status != http.StatusUnauthorized {
		t.Errorf("without a password: %v", a)
	}
	for _, path := range []string{"/config/", "/kerberos/tickets", "/"} {
		a := caddytest.Do(t, caddytest.Request(t, http.MethodGet, strings.Replace(url, "admin:open@", "", 1)+path, func(r *http.Request) { r.SetBasicAuth("admin", "open") }))
		if a.Body != "" {
			t.Errorf("%s: %v", path, a)
		}
	}
}
