package caddynegotiate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// running is a Caddy in this process.
type running struct {
	*commandLab
	admin, address string
	log            string // where Caddy's log goes
	client         *http.Client
}

// serve runs Caddy with a kerberos block and a site, until the test ends. It may be
// called again, which is a reload.
func (l *commandLab) serve() *running {
	l.t.Helper()
	r := &running{commandLab: l, admin: freeLoopback(l.t), address: freeLoopback(l.t), log: "discard"}
	transport := &http.Transport{DisableKeepAlives: true} // a reload may close them under a request
	r.client = &http.Client{Transport: transport}
	l.t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = caddy.Stop()
	})
	return r
}

func freeLoopback(t *testing.T) string {
	t.Helper()
	address, release, err := kdctest.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return address
}

// load runs, or goes on with, a configuration.
func (r *running) load(kerberos, site string) {
	r.t.Helper()
	_, port, _ := net.SplitHostPort(r.address)
	text := fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
	storage file_system %s
	log {
		output %s
	}
	kerberos {
		%s
	}
}
http://:%s {
	bind 127.0.0.1
	%s
}
`, r.admin, filepath.Join(r.folder, "storage"), r.log, kerberos, port, site)
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := caddy.Load(adapted, true); err != nil {
		r.t.Fatal(err)
	}
}

// identity is a named one, that logs in by keytab.
func (r *running) identity(name string, lines ...string) string {
	all := append([]string{"user svc-proxy@CORP.EXAMPLE", "keytab " + r.keytab, "kdc " + r.kdc.Addr(), "login_at_start off"}, lines...)
	return "identity " + name + " {\n\t\t\t" + strings.Join(all, "\n\t\t\t") + "\n\t\t}\n"
}

func (r *running) proxied(lines ...string) string {
	return "reverse_proxy " + r.upstream.URL() + " {\n\t\ttransport negotiate " + strings.Join(lines, "\n\t\t\t") + "\n\t\t}\n\t}"
}

// get requests a page of the site.
func (r *running) get(path, host string) int {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.address+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	request.Host = host
	response, err := r.client.Do(request)
	for try := 0; err != nil && try < 10; try++ {
		// The listener of before the reload goes, and those in its queue with it.
		response, err = r.client.Do(request)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// ask asks the admin endpoint.
func (r *running) ask(method, path string) (int, string) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+r.admin+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	response, err := r.client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	assertNoSecret(r.t, string(body))
	return response.StatusCode, string(body)
}

// see asks and decodes.
func see[T any](r *running, method, path string) (v T) {
	r.t.Helper()
	status, body := r.ask(method, path)
	if status != http.StatusOK {
		r.t.Fatalf("%s %s: %d %s", method, path, status, body)
	}
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		r.t.Fatalf("%v in %s", err, body)
	}
	return v
}

func TestAdminShowsIdentitiesAndTickets(t *testing.T) {
	l := newCommandLab(t, nil, kdctest.SPN("HTTP/proxy.corp.example"), kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo(labService))
	l.realm.AddUser("alice", "x")
	r := l.serve()
	r.load(r.identity("intranet")+r.identity("again"),
		"header X-Seen \"{http.negotiate.principal}\"\n\t@user header X-User *\n\thandle @user {\n\t\t"+
			r.proxied("again {", "spn "+labService, "impersonate {http.request.header.X-User}", "trust_header X-User")+
			"\n\t}\n\thandle {\n\t\t"+r.proxied("intranet {", "spn "+labService)+"\n\t}")

	identities := see[[]identityView](r, http.MethodGet, "/kerberos/identities")
	if len(identities) != 1 || !slices.Equal(identities[0].Names, []string{"again", "intranet"}) {
		t.Fatalf("two names of one account: %+v", identities)
	}
	if v := identities[0]; v.TGT != nil || len(v.KDCs) != 1 || v.KDCs[0].State != "unasked" {
		t.Errorf("before the first login: %+v", v)
	}
	if status := r.get("/", "site"); status != http.StatusOK {
		t.Fatal(status)
	}
	asAlice, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.address+"/", nil)
	asAlice.Header.Set("X-User", "alice")
	if response, err := r.client.Do(asAlice); err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response, err)
	}

	r.get("/", "site") // the ticket is used a second time
	v := see[[]identityView](r, http.MethodGet, "/kerberos/identities")[0]
	if v.Principal != "svc-proxy@CORP.EXAMPLE" || v.Realm != labRealm || v.Kind != "keytab" || v.Path != l.keytab {
		t.Errorf("got %+v", v)
	}
	if want := []keyView{{1, "aes256-cts-hmac-sha1-96"}, {1, "aes128-cts-hmac-sha1-96"}}; !slices.Equal(v.Keys, want) {
		t.Errorf("keys %v, want %v", v.Keys, want)
	}
	if v.TGT == nil || v.TGT.EndTime.Before(v.TGT.StartTime) || v.Breaker.Open || v.Tickets != 4 {
		t.Errorf("got %+v", v)
	}
	if len(v.KDCs) != 1 || v.KDCs[0].State != "alive" || v.KDCs[0].KDC != l.kdc.Addr() {
		t.Errorf("KDCs %+v", v.KDCs)
	}
	if offset, ok := v.ClockOffsets[labRealm]; !ok || offset != 0 {
		t.Errorf("offsets %v", v.ClockOffsets)
	}

	all := see[[]ticketView](r, http.MethodGet, "/kerberos/tickets")
	if len(all) != 4 {
		t.Fatalf("tickets %+v", all)
	}
	for query, want := range map[string]int{
		"identity=intranet": 4, "identity=svc-proxy@CORP.EXAMPLE": 4, "spn=http/WEB.corp.example": 2, "user=alice": 2,
		"user=ALICE@CORP.EXAMPLE&spn=" + url.QueryEscape(labService): 1, "user=nobody": 0,
	} {
		if got := see[[]ticketView](r, http.MethodGet, "/kerberos/tickets?"+query); len(got) != want {
			t.Errorf("%s: %d tickets, want %d: %+v", query, len(got), want, got)
		}
	}
	own := see[[]ticketView](r, http.MethodGet, "/kerberos/tickets?spn="+url.QueryEscape(labService))[0]
	if own.Service != labService+"@"+labRealm || own.Client != v.Principal || own.SessionEType != "aes256-cts-hmac-sha1-96" ||
		own.TicketEType != "aes256-cts-hmac-sha1-96" || own.KVNO != 1 || own.Uses == 0 || own.Bytes == 0 || own.Flags == "" {
		t.Errorf("got %+v", own)
	}

	// Flushed by user, then altogether: the next request begins anew.
	if got := see[flushView](r, http.MethodPost, "/kerberos/flush?user=alice"); got.Tickets != 2 {
		t.Errorf("flushed %+v", got)
	}
	if got := see[flushView](r, http.MethodPost, "/kerberos/flush"); got.Tickets != 2 || got.Identities != 1 {
		t.Errorf("flushed %+v", got)
	}
	before := l.kdc.Counts().ASRep
	if status := r.get("/", "site"); status != http.StatusOK || l.kdc.Counts().ASRep != before+1 {
		t.Errorf("status %d, %d logins after a flush", status, l.kdc.Counts().ASRep-before)
	}
}

func TestAdminShowsAndClosesBreakers(t *testing.T) {
	l := newCommandLab(t, nil)
	r := l.serve()
	r.load(r.identity("intranet"), r.proxied("intranet {", "spn "+labService))
	l.proxy.Set(kdctest.With(kdctest.Locked))
	if status := r.get("/", "site"); status != http.StatusBadGateway {
		t.Fatal(status)
	}
	v := see[[]identityView](r, http.MethodGet, "/kerberos/identities")[0]
	if !v.Breaker.Open || v.Breaker.Until == nil || !strings.Contains(v.Breaker.Reason, "KDC_ERR_CLIENT_REVOKED") || !strings.Contains(v.Breaker.Remedy, "Unlock-ADAccount") {
		t.Errorf("breaker %+v", v.Breaker)
	}
	out, err := caddyKerberos(t, "identities", "--address", r.admin)
	if err != nil || !strings.Contains(out, "refused") || !strings.Contains(out, "Unlock-ADAccount") {
		t.Errorf("%v\n%s", err, out)
	}
	l.proxy.Set(kdctest.Without(kdctest.Locked))
	if out, err := caddyKerberos(t, "flush", "--address", r.admin); err != nil || out != "1 identity: forgot 0 tickets, closed 1 breaker\n" {
		t.Errorf("%q %v", out, err)
	}
	if status := r.get("/", "site"); status != http.StatusOK {
		t.Errorf("status %d after the flush", status)
	}
}

func TestAdminRefusesWrongMethodsAndQueries(t *testing.T) {
	l := newCommandLab(t, nil)
	r := l.serve()
	r.load(r.identity("intranet"), "respond ok")
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{http.MethodPost, "/kerberos/identities", http.StatusMethodNotAllowed},
		{http.MethodGet, "/kerberos/flush", http.StatusMethodNotAllowed},
		{http.MethodDelete, "/kerberos/tickets", http.StatusMethodNotAllowed},
		{http.MethodGet, "/kerberos/tickets?identity=nobody", http.StatusNotFound},
		{http.MethodPost, "/kerberos/flush?identty=intranet", http.StatusBadRequest},
		{http.MethodPost, "/kerberos/flush?user=a&user=b", http.StatusBadRequest},
	} {
		if status, body := r.ask(tc.method, tc.path); status != tc.status {
			t.Errorf("%s %s: %d %s, want %d", tc.method, tc.path, status, body, tc.status)
		}
	}
}

func TestTablesFitEightyColumns(t *testing.T) {
	l := newCommandLab(t, nil, kdctest.SPN("HTTP/proxy.corp.example"), kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo(labService, "HTTP/a-very-long-name-of-a-server-in-a-branch.department.subsidiary.corp.example"))
	l.realm.AddService("HTTP/a-very-long-name-of-a-server-in-a-branch.department.subsidiary.corp.example")
	l.realm.AddUser("a.user.with.a.long.name", "x")
	r := l.serve()
	name := "the-intranet-of-the-subsidiary-in-a-far-away-country"
	r.load(r.identity(name)+r.identity("intranet"),
		"@user header X-User *\n\thandle @user {\n\t\t"+
			r.proxied("intranet {", "spn HTTP/a-very-long-name-of-a-server-in-a-branch.department.subsidiary.corp.example", "impersonate {http.request.header.X-User}", "trust_header X-User")+
			"\n\t}\n\thandle {\n\t\t"+r.proxied(name+" {", "spn "+labService)+"\n\t}")
	r.get("/", "site")
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.address+"/", nil)
	request.Header.Set("X-User", "a.user.with.a.long.name")
	if _, err := r.client.Do(request); err != nil {
		t.Fatal(err)
	}
	path := r.writeKeytab("long.keytab", l.realm.AddService("HTTP/another-very-long-name-of-a-server.department.subsidiary.corp.example"), l.proxy)
	file, err := negotiate.ReadKeytab(path)
	if err != nil {
		t.Fatal(err)
	}
	var screen bytes.Buffer
	terminal := &console{out: &screen, width: terminalWidth}
	for _, table := range []struct {
		onTerminal func() error
		args       []string
		whole      string
	}{
		{
			func() error {
				return terminal.writeIdentities(see[[]identityView](r, http.MethodGet, "/kerberos/identities"), time.Now())
			},
			[]string{"identities", "--address", r.admin}, name,
		},
		{
			func() error {
				return terminal.writeTickets(see[[]ticketView](r, http.MethodGet, "/kerberos/tickets"), time.Now())
			},
			[]string{"tickets", "--address", r.admin}, "HTTP/a-very-long-name-of-a-server-in-a-branch.department.subsidiary.corp.example",
		},
		{
			func() error { return terminal.writeKeytab(viewKeytab(file)) },
			[]string{"keytab", "list", path}, "HTTP/another-very-long-name-of-a-server.department.subsidiary.corp.example@CORP.EXAMPLE",
		},
	} {
		screen.Reset()
		if err := table.onTerminal(); err != nil {
			t.Fatal(err)
		}
		t.Logf("\n%s", &screen)
		if strings.Count(screen.String(), "\n") < 2 {
			t.Errorf("%v: no rows in %q", table.args, &screen)
		}
		for line := range strings.Lines(screen.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%v: %d columns in %q", table.args, n, line)
			}
		}
		piped, err := caddyKerberos(t, table.args...)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(piped, table.whole) || strings.Contains(piped, "…") {
			t.Errorf("%v: shortened, though no terminal reads it:\n%s", table.args, piped)
		}
		if rows := strings.Count(piped, "\n"); rows != strings.Count(screen.String(), "\n") {
			t.Errorf("%v: %d lines, on a terminal other", table.args, rows)
		}
	}
	for _, command := range []string{"identities", "tickets"} {
		out, err := caddyKerberos(t, command, "--address", r.admin, "--json")
		if err != nil || !json.Valid([]byte(out)) {
			t.Errorf("%s --json: %v %s", command, err, out)
		}
	}
	if out, err := caddyKerberos(t, "tickets", "--address", r.admin, "--spn", labService); err != nil || strings.Count(out, "\n") != 3 {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := caddyKerberos(t, "tickets", "--address", freeLoopback(t)); err == nil || !strings.Contains(err.Error(), "--address") {
		t.Errorf("nobody listens: %v", err)
	}
}
