package docs

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// site is a running site, and a user who signs in to it.
type site struct {
	caddytest.Env
	alice *caddytest.User
}

// get requests / as the user.
func (s *site) get() caddytest.Answer { return s.Get("/", s.alice.SignIn) }

// liveSite runs a site that has had everything that metrics count, and shows them at
// /metrics.
func liveSite(t *testing.T, lines ...string) *site {
	t.Helper()
	const spn = "HTTP/proxy.corp.example"
	e := caddytest.NewEnv(t, caddytest.Options{Proxy: []kdctest.Option{kdctest.SPN(spn)}})
	e.Realm.IssuePACs()
	e.Realm.AddUser("alice", "secret")
	s := &site{Env: e, alice: caddytest.NewUser(t, e.KDC, "alice@"+caddytest.RealmName, "secret", spn)}
	e.KDC.Use(kdctest.Every(2, kdctest.UDP(kdctest.Garbage(100)))) // replies that are not believed
	caddytest.Load(t, e.Global("DEBUG", "metrics", caddytest.Block("kerberos", "ticket_store storage"))+
		caddytest.Site(e.Addr, append(lines, "metrics /metrics",
			caddytest.Block("negotiate_auth /", e.Login("spn "+spn)...),
			caddytest.Block("negotiate", e.Login("spn "+caddytest.Service)...), "reverse_proxy "+e.Upstream.Addr())...))
	s.get().WantUser(t, caddytest.Principal)
	e.ChangeServiceKey() // a token that is refused
	s.get().WantUser(t, caddytest.Principal)
	return s
}

var typeLine = regexp.MustCompile(`(?m)^# TYPE (caddy_(?:negotiate|kerberos)_\w+) (\w+)$`)

func TestReference_MetricTypes(t *testing.T) {
	var documented, shown []string
	for _, cells := range metricRows(readBook(t)) {
		documented = append(documented, spans(cells[0])[0]+" "+cells[1])
	}
	for _, m := range typeLine.FindAllStringSubmatch(liveSite(t).Get("/metrics").Body, -1) {
		shown = append(shown, m[1]+" "+m[2])
	}
	for _, fault := range differ("metric", "docs/metrics.md", shown, documented) {
		t.Error(fault)
	}
}

var placeholder = regexp.MustCompile(`\{(http\.negotiate\.[a-z_.]+)\}`)

// Each placeholder of the table has a value, and no page names another one.
func TestReference_Placeholders(t *testing.T) {
	b := readBook(t)
	var documented, lines []string
	for i, name := range column(b.own(directives, "## Placeholders"), 0) {
		documented = append(documented, name)
		lines = append(lines, fmt.Sprintf("header >X-P%d <%s>", i, name))
	}
	a := liveSite(t, lines...).get()
	for i, name := range documented {
		value := a.Header.Get(fmt.Sprintf("X-P%d", i))
		if isError := strings.Contains(name, ".error"); strings.Contains(value, "{") || (value == "<>") != isError {
			t.Errorf("%s is %q", name, value)
		}
	}
	for page, text := range b {
		for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(documented, "{"+m[1]+"}") {
				t.Errorf("%s names the placeholder %s, which %s does not have", page, m[1], directives)
			}
		}
	}
	if a.Status != http.StatusOK || len(documented) < 7 {
		t.Errorf("%v, %v", a, documented)
	}
}
