package caddynegotiate

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// scrape gives the samples of our metrics, as they stand in the exposition.
func (r *running) scrape() map[string]string {
	r.t.Helper()
	status, body := r.ask(http.MethodGet, "/metrics")
	if status != http.StatusOK {
		r.t.Fatalf("%d %s", status, body)
	}
	samples := make(map[string]string)
	for line := range strings.Lines(body) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && isOurs(name) {
			samples[name+"}"] = value
		} else if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && isOurs(name) {
			samples[name] = value
		}
	}
	return samples
}

func isOurs(line string) bool {
	return strings.HasPrefix(line, "caddy_negotiate_") || strings.HasPrefix(line, "caddy_kerberos_")
}

// grown is by how much a counter has grown.
func grown(before, after map[string]string, sample string) float64 {
	var a, b float64
	_, _ = fmt.Sscan(before[sample], &a)
	_, _ = fmt.Sscan(after[sample], &b)
	return b - a
}

// series gives the samples' names, in order.
func series(samples map[string]string) []string {
	var all []string
	for name := range samples {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func TestMetricsCountWhatBecomesOfRequests(t *testing.T) {
	l := newCommandLab(t, nil)
	r := l.serve()
	r.load(r.identity("counted"), r.proxied("counted {", "spn "+labService))
	before := r.scrape()
	for range 3 {
		if status := r.get("/", "site"); status != http.StatusOK {
			t.Fatal(status)
		}
	}
	l.web.ChangeKey(false)
	if err := l.acceptor.Update(func(c *kdctest.AcceptorConfig) { c.Keytab = l.keysOf(l.web) }); err != nil {
		t.Fatal(err)
	}
	r.get("/", "site")     // retried with a new ticket
	l.web.ChangeKey(false) // and now the upstream keeps the old key
	if _, err := caddyKerberos(t, "flush", "--address", r.admin, "--spn", labService); err != nil {
		t.Fatal(err)
	}
	r.get("/", "site") // rejected
	l.kdc.Stop()
	if _, err := caddyKerberos(t, "flush", "--address", r.admin); err != nil {
		t.Fatal(err)
	}
	r.get("/", "site") // error

	after := r.scrape()
	for sample, want := range map[string]float64{
		`caddy_negotiate_requests_total{identity="counted",result="ok"}`:                     3,
		`caddy_negotiate_requests_total{identity="counted",result="retried"}`:                1,
		`caddy_negotiate_requests_total{identity="counted",result="rejected"}`:               1,
		`caddy_negotiate_requests_total{identity="counted",result="error"}`:                  1,
		`caddy_negotiate_upstream_rejections_total{code="44",identity="counted"}`:            3,
		`caddy_kerberos_cache_lookups_total{identity="counted",result="miss"}`:               2,
		`caddy_kerberos_cache_lookups_total{identity="counted",result="hit"}`:                3,
		`caddy_kerberos_cache_lookups_total{identity="counted",result="error"}`:              1,
		`caddy_negotiate_token_bytes_count`:                                                  7,
		exchangeSample(l.kdc.Addr(), "as", "challenge"):                                      1,
		exchangeSample(l.kdc.Addr(), "as", "ok"):                                             1,
		`caddy_kerberos_kdc_exchange_duration_seconds_count{realm="CORP.EXAMPLE",type="as"}`: 2,
	} {
		if got := grown(before, after, sample); got != want {
			t.Errorf("%s grew by %v, want %v", sample, got, want)
		}
	}
	if grown(before, after, exchangeSample(l.kdc.Addr(), "as", "failed")) == 0 {
		t.Error("the dead KDC is not counted")
	}
	if t.Failed() {
		for _, s := range series(after) {
			if !strings.Contains(s, "_bucket") {
				t.Log(s, after[s])
			}
		}
	}
}

func exchangeSample(kdc, kind, result string) string {
	return fmt.Sprintf(`caddy_kerberos_kdc_exchanges_total{kdc=%q,realm="CORP.EXAMPLE",result=%q,type=%q}`, kdc, result, kind)
}

func TestMetricsSurviveReloadsWithTwoInstances(t *testing.T) {
	l := newCommandLab(t, nil)
	r := l.serve()
	site := func(i int) string {
		// The handler and the transport, by one account under two names.
		return fmt.Sprintf("@h path /h*\n\thandle @h {\n\t\tnegotiate b-name {\n\t\t\tspn %s\n\t\t}\n\t\treverse_proxy %s\n\t}\n\thandle {\n\t\t%s\n\t}\n\theader X-Reload %d",
			labService, l.upstream.Addr(), r.proxied("a-name {", "spn "+labService), i)
	}
	load := func(i int) { r.load(r.identity("a-name")+r.identity("b-name"), site(i)) }
	load(0)
	before := r.scrape()
	for i := range 10 {
		load(i + 1)
		for _, path := range []string{"/", "/h"} {
			if status := r.get(path, "site"); status != http.StatusOK {
				t.Fatal(status)
			}
		}
		after := r.scrape()
		if got := grown(before, after, `caddy_negotiate_requests_total{identity="a-name",result="ok"}`); got != float64(2*(i+1)) {
			t.Fatalf("after %d reloads: %v requests, want %d, all under the first name", i+1, got, 2*(i+1))
		}
		for _, gauge := range []string{"caddy_kerberos_tickets", "caddy_kerberos_tgt_expiry_timestamp_seconds", "caddy_kerberos_breaker_open"} {
			if _, ok := after[gauge+`{identity="a-name"}`]; !ok {
				t.Fatalf("%s is gone after %d reloads", gauge, i+1)
			}
			if _, ok := after[gauge+`{identity="b-name"}`]; ok {
				t.Fatalf("%s has the second name too", gauge)
			}
		}
	}
	if n := l.kdc.Counts().ASRep; n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestNamesInRequestsCreateNoLabels(t *testing.T) {
	l := newCommandLab(t, nil)
	for i := range 3 {
		l.realm.AddService(fmt.Sprintf("HTTP/host%d.corp.example", i))
	}
	r := l.serve()
	r.load(r.identity("bounded"), r.proxied("bounded {", "spn HTTP/{http.request.host}", "allow_spns HTTP/*"))
	r.get("/", "host0.corp.example")
	r.get("/", "nowhere.corp.example")
	before := series(r.scrape())
	for i := range 3 {
		r.get("/", fmt.Sprintf("host%d.corp.example", i))
		r.get("/", fmt.Sprintf("nowhere%d.corp.example", i))
		r.get("/", fmt.Sprintf("x%d.other.example", i))
	}
	if after := series(r.scrape()); !slices.Equal(before, after) {
		for _, name := range after {
			if !slices.Contains(before, name) {
				t.Errorf("new: %s", name)
			}
		}
	}
	for _, name := range before {
		if strings.Contains(name, "host") || strings.Contains(name, "nowhere") {
			t.Errorf("a host in %s", name)
		}
	}
}

func TestIdentitiesThatShareALabelMakeOneSeries(t *testing.T) {
	l := newCommandLab(t, nil)
	r := l.serve()
	inline := func(lines ...string) string {
		return r.proxied(append(append([]string{"{", "user svc-proxy@CORP.EXAMPLE", "kdc " + l.kdc.Addr(), "spn " + labService, "login_at_start off"}, lines...), "")...)
	}
	// One principal with two kinds of credentials is two identities under one name.
	r.load("", "@p path /p*\n\thandle @p {\n\t\t"+inline("password_file "+l.write("password", []byte("wrong")))+"\n\t}\n\thandle {\n\t\t"+inline("keytab "+l.keytab)+"\n\t}")
	const who = `{identity="svc-proxy@CORP.EXAMPLE"}`
	if _, early := r.scrape()["caddy_kerberos_breaker_open"+who]; early {
		t.Error("gauges before the first login")
	}
	if status := r.get("/", "site"); status != http.StatusOK {
		t.Fatal(status)
	}
	if got := r.scrape(); got["caddy_kerberos_breaker_open"+who] != "0" || got["caddy_kerberos_tickets"+who] != "2" {
		t.Errorf("breaker %s, tickets %s", got["caddy_kerberos_breaker_open"+who], got["caddy_kerberos_tickets"+who])
	}
	if status := r.get("/p", "site"); status != http.StatusBadGateway {
		t.Fatal(status)
	}
	if got := r.scrape(); got["caddy_kerberos_breaker_open"+who] != "1" || got["caddy_kerberos_tickets"+who] != "2" {
		t.Errorf("breaker %s, tickets %s", got["caddy_kerberos_breaker_open"+who], got["caddy_kerberos_tickets"+who])
	}
}

func TestRealmsAndKDCsThatAreNotConfiguredAreOther(t *testing.T) {
	parse := func(s string) kdc.Server {
		server, err := kdc.ParseServer(s)
		if err != nil {
			t.Fatal(err)
		}
		return server
	}
	m := newKDCMeter(atlas{realms: map[string]*Realm{"B.EXAMPLE": {KDC: []string{"b1"}}}}, "A.EXAMPLE", []kdc.Server{parse("a1")})
	for realm, want := range map[string]string{"A.EXAMPLE": "A.EXAMPLE", "B.EXAMPLE": "B.EXAMPLE", "C.EXAMPLE": other} {
		if got := m.realm(realm); got != want {
			t.Errorf("realm %s is %s, want %s", realm, got, want)
		}
	}
	for server, want := range map[string]string{"a1": "a1", "b1": "b1", "tcp/a1": other, "c1": other} {
		if got := m.server(parse(server)); got != want {
			t.Errorf("KDC %s is %s, want %s", server, got, want)
		}
	}
	if got := label("svc\xff"); got != "svc?" {
		t.Errorf("what is no UTF-8 would stop the process: %q", got)
	}
	if got := codeLabel(&messages.KRBError{ErrorCode: 12345}); got != other {
		t.Errorf("an upstream's own code is %s", got)
	}
}

// BenchmarkCounting is what each request pays for its counters.
func BenchmarkCounting(b *testing.B) {
	acct := &account{presence: new(presence)}
	acct.presence.meter.Store(meterOf("bench"))
	out := new(outcome)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m := acct.meter()
			m.looked(cache.Cached, nil)
			tokenBytes.Observe(2048)
			m.answered(out, false)
		}
	})
}

func TestNoSecretStandsInAnyOutput(t *testing.T) {
	l := newCommandLab(t, nil, kdctest.SPN("HTTP/proxy.corp.example"), kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo(labService))
	l.realm.AddUser("alice", "x")
	r := l.serve()
	r.load(r.identity("quiet"), "@u header X-User *\n\thandle @u {\n\t\t"+
		r.proxied("quiet {", "spn "+labService, "impersonate {http.request.header.X-User}", "trust_header X-User")+"\n\t}\n\thandle {\n\t\t"+r.proxied("quiet {", "spn "+labService)+"\n\t}")
	r.get("/", "site")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-User", "alice")
	response, err := r.client.Do(request)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response, err)
	}
	response.Body.Close()

	var outputs []string
	for _, path := range []string{"/kerberos/identities", "/kerberos/tickets", "/metrics"} {
		_, body := r.ask(http.MethodGet, path)
		outputs = append(outputs, body)
	}
	file := l.caddyfile(l.usual()...)
	for _, args := range [][]string{
		{"identities", "--address", r.admin}, {"identities", "--address", r.admin, "--json"},
		{"tickets", "--address", r.admin}, {"tickets", "--address", r.admin, "--json"},
		{"keytab", "list", l.keytab}, {"keytab", "list", l.keytab, "--json"},
		{"check", "--config", file}, {"check", "--config", file, "--json"}, {"check", "--config", file, "--user", "alice", "--json"},
	} {
		out, err := caddyKerberos(t, args...)
		if err != nil {
			t.Fatal(args, err)
		}
		outputs = append(outputs, out)
	}

	file2, err := keytab.Parse(l.keysOf(l.proxy))
	if err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{[]byte(labPassword)}
	for _, e := range file2.Entries {
		secrets = append(secrets, e.Key.Bytes())
	}
	held := tickets.Snapshot(nil)
	if len(held) < 4 {
		t.Fatalf("%d tickets", len(held))
	}
	for _, item := range held {
		c := item.Value.Credential()
		secrets = append(secrets, c.Key.Bytes(), c.Ticket[len(c.Ticket)/2:len(c.Ticket)/2+24])
	}
	for _, out := range outputs {
		folded := strings.ToLower(out)
		for _, secret := range secrets {
			for name, form := range map[string]string{
				"raw": strings.ToLower(string(secret)), "hex": hex.EncodeToString(secret[:12]),
				"base64": strings.ToLower(base64.StdEncoding.EncodeToString(secret[:12])), "numbers": strings.Trim(fmt.Sprint(secret[:8]), "[]"),
			} {
				if strings.Contains(folded, form) {
					t.Errorf("%s of a secret stands in %.200s...", name, out)
				}
			}
		}
	}
}

// The contract's names.
var contractMetrics = []string{
	"caddy_negotiate_requests_total", "caddy_negotiate_token_bytes", "caddy_negotiate_upstream_rejections_total",
	"caddy_kerberos_kdc_exchanges_total", "caddy_kerberos_kdc_exchange_duration_seconds", "caddy_kerberos_cache_lookups_total",
	"caddy_kerberos_tickets", "caddy_kerberos_tgt_expiry_timestamp_seconds", "caddy_kerberos_breaker_open",
	"caddy_kerberos_clock_offset_seconds", "caddy_kerberos_bad_replies_total",
	"caddy_kerberos_store_operations_total",
}

func TestDashboardsAndAlertsFindTheirMetrics(t *testing.T) {
	l := newCommandLab(t, nil)
	broken := kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{l.realm}})
	broken.Use(kdctest.Garbage(40))
	if err := broken.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broken.Stop)
	r := l.serve()
	r.load("ticket_store storage\n\t\t"+strings.Replace(r.identity("shown", "use_tcp"), "kdc ", "kdc "+broken.Addr()+" ", 1), r.proxied("shown {", "spn "+labService))
	if status := r.get("/", "site"); status != http.StatusOK {
		t.Fatal(status)
	}
	l.web.ChangeKey(false)
	if err := l.acceptor.Update(func(c *kdctest.AcceptorConfig) { c.Keytab = l.keysOf(l.web) }); err != nil {
		t.Fatal(err)
	}
	r.get("/", "site") // a rejection
	exported := make(map[string]bool)
	labels := make(map[string]map[string]bool)
	for name := range r.scrape() {
		family, rest, _ := strings.Cut(name, "{")
		exported[family] = true
		if labels[family] == nil {
			labels[family] = map[string]bool{}
		}
		for _, m := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(rest, -1) {
			labels[family][m[1]] = true
		}
	}
	for _, name := range contractMetrics {
		if !exported[name] && !exported[name+"_count"] {
			t.Errorf("%s is not exported", name)
		}
	}

	word := regexp.MustCompile(`caddy_(?:negotiate|kerberos)_\w+`)
	selector := regexp.MustCompile(`(caddy_(?:negotiate|kerberos)_\w+)\{([^}]*)\}`)
	by := regexp.MustCompile(`by \(([^)]*)\)`)
	used := make(map[string]bool)
	for file, queries := range grafanaQueries(t) {
		for _, query := range queries {
			names := word.FindAllString(query, -1)
			if len(names) == 0 {
				t.Errorf("%s: no metric in %q", file, query)
			}
			for _, name := range names {
				used[strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")] = true
				if !exported[name] {
					t.Errorf("%s asks for %s, which is not exported: %s", file, name, query)
				}
			}
			for _, m := range selector.FindAllStringSubmatch(query, -1) {
				for _, condition := range strings.Split(m[2], ",") {
					label := regexp.MustCompile(`^\s*(\w+)`).FindString(condition)
					if label = strings.TrimSpace(label); label != "" && !labels[m[1]][label] {
						t.Errorf("%s: %s has no label %s: %s", file, m[1], label, query)
					}
				}
			}
			for _, m := range by.FindAllStringSubmatch(query, -1) {
				for label := range strings.SplitSeq(m[1], ",") {
					if label = strings.TrimSpace(label); !labels[names[0]][label] {
						t.Errorf("%s: %s has no label %s: %s", file, names[0], label, query)
					}
				}
			}
		}
	}
	for _, name := range contractMetrics {
		if !used[name] {
			t.Errorf("no dashboard and no alert shows %s", name)
		}
	}
}

// grafanaQueries finds every PromQL expression of the examples.
func grafanaQueries(t *testing.T) map[string][]string {
	t.Helper()
	all := make(map[string][]string)
	dashboards, _ := filepath.Glob("examples/grafana/*.json")
	for _, path := range dashboards {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var board any
		if err := json.Unmarshal(content, &board); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		var find func(v any)
		find = func(v any) {
			switch v := v.(type) {
			case map[string]any:
				for key, value := range v {
					if text, ok := value.(string); ok && (key == "expr" || key == "query" || key == "definition") && strings.Contains(text, "caddy_") {
						all[path] = append(all[path], text)
					}
					find(value)
				}
			case []any:
				for _, value := range v {
					find(value)
				}
			}
		}
		find(board)
	}
	rules, _ := filepath.Glob("examples/grafana/*.yml")
	for _, path := range rules {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^\s+expr: (.+)$`).FindAllStringSubmatch(string(content), -1) {
			all[path] = append(all[path], m[1])
		}
	}
	if len(all) < 2 {
		t.Fatalf("only %d files with queries in examples/grafana", len(all))
	}
	return all
}
