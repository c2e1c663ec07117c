package operations

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

func TestMetrics_Requests(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.load([]string{s.identity("counted")}, s.proxy("counted"))
	before := s.scrape()
	for range 3 {
		s.Get("/").WantUser(t, caddytest.Principal)
	}
	s.ChangeServiceKey()
	s.Get("/").WantUser(t, caddytest.Principal) // retried with a new ticket
	s.Web.ChangeKey(false)                      // the upstream keeps the old key
	s.ask(http.MethodPost, "/kerberos/flush?spn="+url.QueryEscape(caddytest.Service))
	if a := s.Get("/"); a.Word() != "token_refused" {
		t.Fatal(a)
	}
	s.KDC.Stop()
	s.ask(http.MethodPost, "/kerberos/flush")
	if a := s.Get("/"); a.Word() != "kdc_unreachable" {
		t.Fatal(a)
	}

	after := s.scrape()
	exchange := func(result string) string {
		return fmt.Sprintf(`caddy_kerberos_kdc_exchanges_total{kdc=%q,realm="CORP.EXAMPLE",result=%q,type="as"}`, s.KDC.Addr(), result)
	}
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
		exchange("challenge"):                                                                1,
		exchange("ok"):                                                                       1,
		`caddy_kerberos_kdc_exchange_duration_seconds_count{realm="CORP.EXAMPLE",type="as"}`: 2,
	} {
		if got := after[sample] - before[sample]; got != want {
			t.Errorf("%s grew by %v, want %v", sample, got, want)
		}
	}
	if after[exchange("failed")] == before[exchange("failed")] {
		t.Error("the dead KDC is not counted")
	}
}

// Handler and transport count under the first name of the account, over reloads.
func TestMetrics_Reloads(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	load := func(i int) {
		s.load([]string{s.identity("a-name"), s.identity("b-name")},
			"@h path /h*", caddytest.Block("handle @h", caddytest.Block("negotiate b-name", "spn "+caddytest.Service), "reverse_proxy "+s.Upstream.Addr()),
			caddytest.Block("handle", s.proxy("a-name")), fmt.Sprint("header X-Reload ", i))
	}
	load(0)
	const ok = `caddy_negotiate_requests_total{identity="a-name",result="ok"}`
	before := s.scrape()
	for i := 1; i <= 5; i++ {
		load(i)
		s.Get("/").WantUser(t, caddytest.Principal)
		s.Get("/h").WantUser(t, caddytest.Principal)
		after := s.scrape()
		if got := after[ok] - before[ok]; got != float64(2*i) {
			t.Fatalf("after %d reloads: %v requests, want %d", i, got, 2*i)
		}
		for _, gauge := range []string{"caddy_kerberos_tickets", "caddy_kerberos_tgt_expiry_timestamp_seconds", "caddy_kerberos_breaker_open"} {
			_, first := after[gauge+`{identity="a-name"}`]
			_, second := after[gauge+`{identity="b-name"}`]
			if !first || second {
				t.Fatalf("%s after %d reloads: first name %t, second name %t", gauge, i, first, second)
			}
		}
	}
	s.WantCounts(1, 1)
}

func TestMetrics_NamesInRequestsAreNoLabels(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	for i := range 3 {
		s.Realm.AddService(fmt.Sprintf("HTTP/host%d.corp.example", i))
	}
	s.load([]string{s.identity("bounded")}, caddytest.Block("reverse_proxy "+s.Upstream.Addr(),
		caddytest.Block("transport negotiate bounded", "spn HTTP/{http.request.host}", "allow_spns HTTP/*")))
	get := func(host string) { s.Get("/", func(r *http.Request) { r.Host = host }) }
	get("host0.corp.example")
	get("nowhere.corp.example")
	before := s.scrape().series()
	for i := range 3 {
		get(fmt.Sprintf("host%d.corp.example", i))
		get(fmt.Sprintf("nowhere%d.corp.example", i))
		get(fmt.Sprintf("x%d.other.example", i))
	}
	if after := s.scrape().series(); !slices.Equal(before, after) {
		t.Errorf("before %q\nafter %q", before, after)
	}
	for _, name := range before {
		if strings.Contains(name, "host") || strings.Contains(name, "nowhere") {
			t.Errorf("a host in %s", name)
		}
	}
}

func TestMetrics_Store(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.load([]string{"ticket_store storage", s.identity("stored")}, s.proxy("stored"))
	operation := func(name, result string) string {
		return fmt.Sprintf("caddy_kerberos_store_operations_total{operation=%q,result=%q}", name, result)
	}
	before := s.scrape()
	s.Get("/").WantUser(t, caddytest.Principal)
	if miss := operation("load", "miss"); s.scrape()[miss] == before[miss] {
		t.Error("no miss is counted")
	}
	for _, done := range []string{operation("save", "ok"), operation("unlock", "ok")} {
		caddytest.WaitFor(t, done+" grows by two tickets", func() bool { return s.scrape()[done]-before[done] == 2 })
	}
}
