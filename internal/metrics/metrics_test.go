package metrics

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// samples returns what a scrape shows, by metric and label values in order.
func samples(t *testing.T, read func() []Reading) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := Register(registry, read); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := []string{family.GetName()}
			for _, l := range m.GetLabel() {
				name = append(name, l.GetValue())
			}
			all[strings.Join(name, " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}

func nothing() []Reading { return nil }

// growth is a call and the samples that it makes grow.
type growth struct {
	what string
	do   func()
	want []string
}

// check fails unless exactly these samples grow by one.
func (g growth) check(t *testing.T) {
	t.Helper()
	before, what, want := samples(t, nothing), g.what, g.want
	g.do()
	var grown []string
	for name, v := range samples(t, nothing) {
		if v-before[name] == 1 {
			grown = append(grown, name)
		} else if v != before[name] {
			t.Errorf("%s: %s grew by %v", what, name, v-before[name])
		}
	}
	slices.Sort(grown)
	if slices.Sort(want); !slices.Equal(grown, want) {
		t.Errorf("%s: grown %q, want %q", what, grown, want)
	}
}

func server(t *testing.T, s string) kdc.Server {
	t.Helper()
	server, err := kdc.ParseServer(s)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func TestRequests(t *testing.T) {
	r := NewRequests("counted")
	const requests, lookups, rejections = "caddy_negotiate_requests_total counted ", "caddy_kerberos_cache_lookups_total counted ", "caddy_negotiate_upstream_rejections_total "
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, g := range []growth{
		{"ok", func() { r.Answered(false, false) }, []string{requests + "ok"}},
		{"retried", func() { r.Answered(false, true) }, []string{requests + "retried"}},
		{"rejected", func() { r.Answered(true, true) }, []string{requests + "rejected"}},
		{"failed", func() { r.Failed(t.Context()) }, []string{requests + "error"}},
		{"client gone", func() { r.Failed(gone) }, nil},
		{"hit", func() { r.Lookup(cache.Cached, nil) }, []string{lookups + "hit"}},
		{"stored", func() { r.Lookup(cache.Stored, nil) }, []string{lookups + "storage"}},
		{"miss", func() { r.Lookup(cache.Fetched, nil) }, []string{lookups + "miss"}},
		{"no lookup", func() { r.Lookup("", errors.New("no user")) }, nil},
		{"token", func() { r.Token(2000) }, []string{"caddy_negotiate_token_bytes"}},
		{"no reason", func() { r.Refused(negotiate.Verdict{Refused: true}) }, []string{rejections + "none counted"}},
		{"a code", func() {
			r.Refused(negotiate.Verdict{Refused: true, Error: &messages.KRBError{ErrorCode: messages.KRB_AP_ERR_MODIFIED}})
		}, []string{rejections + "41 counted"}},
		{"an upstream's own code", func() {
			r.Refused(negotiate.Verdict{Refused: true, Error: &messages.KRBError{ErrorCode: 12345}})
		}, []string{rejections + "other counted"}},
		{"not authorized", func() { r.Refused(negotiate.Verdict{Refused: true, Proven: true}) }, nil},
		{"store", func() { StoreOperation("load", "ok") }, []string{"caddy_kerberos_store_operations_total load ok"}},
	} {
		g.check(t)
	}
}

func TestKDC(t *testing.T) {
	named, unnamed := server(t, "a1"), server(t, "c1")
	m := NewKDC("A.EXAMPLE", kdc.Static{"A.EXAMPLE": {named}})
	const exchanges, seconds, bad = "caddy_kerberos_kdc_exchanges_total ", "caddy_kerberos_kdc_exchange_duration_seconds ", "caddy_kerberos_bad_replies_total "
	as, tgs := []byte{0x6a, 0}, []byte{0x6c, 0}
	received := func(request, reply []byte) kdc.MessageEvent {
		return kdc.MessageEvent{Direction: kdc.Received, Realm: "A.EXAMPLE", Server: named, Request: request, Data: reply}
	}
	krbError := func(code messages.ErrorCode) []byte {
		e := &messages.KRBError{ErrorCode: code, STime: time.Now(), Realm: "A.EXAMPLE", SName: messages.NewPrincipalName(messages.KRB_NT_SRV_INST, "krbtgt", "A.EXAMPLE")}
		return e.Marshal()
	}
	foreign := received(as, []byte{0x6b, 0})
	foreign.Err = kdc.ErrForeign
	malformed := received(as, []byte("garbage"))
	malformed.Err = kdc.ErrForeign
	sent := received(as, nil)
	sent.Direction = kdc.Sent
	for _, g := range []growth{
		{"sent", func() { m.Message(sent) }, nil},
		{"ticket", func() { m.Message(received(tgs, []byte{0x6d, 0})) }, []string{exchanges + "a1 A.EXAMPLE ok tgs", seconds + "A.EXAMPLE tgs"}},
		{"challenge", func() { m.Message(received(as, krbError(messages.KDC_ERR_PREAUTH_REQUIRED))) }, []string{exchanges + "a1 A.EXAMPLE challenge as", seconds + "A.EXAMPLE as"}},
		{"refusal", func() { m.Message(received(as, krbError(messages.KDC_ERR_PREAUTH_FAILED))) }, []string{exchanges + "a1 A.EXAMPLE refused as", seconds + "A.EXAMPLE as"}},
		{"foreign", func() { m.Message(foreign) }, []string{bad + "A.EXAMPLE foreign"}},
		{"malformed", func() { m.Message(malformed) }, []string{bad + "A.EXAMPLE malformed"}},
		{"wrong key", func() { m.Exchange(exchange.ReplyRefused{Err: &exchange.WrongKeyError{}}) }, []string{bad + "A.EXAMPLE wrong_key"}},
		{"unexpected", func() { m.Exchange(exchange.ReplyRefused{Err: &exchange.ReplyError{}}) }, []string{bad + "A.EXAMPLE unexpected"}},
		{"no reply", func() { m.Decision(kdc.Decision{Kind: kdc.Dead, Realm: "A.EXAMPLE", Server: unnamed, Request: as}) }, []string{exchanges + "other A.EXAMPLE failed as"}},
		{"nil", func() { (*KDC)(nil).Message(sent); (*KDC)(nil).Decision(kdc.Decision{}); (*KDC)(nil).Exchange(nil) }, nil},
	} {
		g.check(t)
	}
}

func TestKDC_LabelsAreBounded(t *testing.T) {
	m := NewKDC("A.EXAMPLE", kdc.Static{"A.EXAMPLE": {server(t, "a1")}, "B.EXAMPLE": {server(t, "b1")}})
	for realm, want := range map[string]string{"A.EXAMPLE": "A.EXAMPLE", "B.EXAMPLE": "B.EXAMPLE", "C.EXAMPLE": Other} {
		if got := m.Realm(realm); got != want {
			t.Errorf("realm %s is %s, want %s", realm, got, want)
		}
	}
	for address, want := range map[string]string{"a1": "a1", "b1": "b1", "tcp/a1": Other, "c1": Other} {
		if got := m.server(server(t, address)); got != want {
			t.Errorf("KDC %s is %s, want %s", address, got, want)
		}
	}
	if got := Label("svc\xff"); got != "svc?" {
		t.Errorf("invalid UTF-8 panics in Prometheus: %q", got)
	}
}

func TestKDC_Servers(t *testing.T) {
	m := NewKDC("A.EXAMPLE", kdc.Static{"A.EXAMPLE": {server(t, "a1")}})
	for _, asked := range []kdc.Decision{
		{Kind: kdc.Asking, Realm: "A.EXAMPLE", Server: server(t, "a1")},
		{Kind: kdc.Hedging, Realm: "A.EXAMPLE", Server: server(t, "a2")},
		{Kind: kdc.Asking, Realm: "A.EXAMPLE", Server: server(t, "a2")},
		{Kind: kdc.Asking, Realm: "B.EXAMPLE", Server: server(t, "b1")},
	} {
		asked.Request = []byte{0x6a}
		m.Decision(asked)
	}
	m.Decision(kdc.Decision{Kind: kdc.Asking, Realm: "A.EXAMPLE", Server: server(t, "a3")}) // which changes passwords
	if got := m.Servers(); !slices.Equal(got, []kdc.Server{server(t, "a1"), server(t, "a2")}) {
		t.Error(got)
	}
}

func TestGauges_SharedLabelIsOneSeries(t *testing.T) {
	early, late := time.UnixMilli(1000_500), time.UnixMilli(2000_000)
	all := samples(t, func() []Reading {
		return []Reading{
			{Identity: "shared", Tickets: 2, TGTEnd: late, Offsets: map[string]time.Duration{"A.EXAMPLE": time.Second, "B.EXAMPLE": -2 * time.Second}},
			{Identity: "shared", Tickets: 3, TGTEnd: early, Refused: true, Offsets: map[string]time.Duration{"A.EXAMPLE": -3 * time.Second}},
			{Identity: "shared"},
			{Identity: "other"},
		}
	})
	want := map[string]float64{
		"caddy_kerberos_tickets shared": 5, "caddy_kerberos_tgt_expiry_timestamp_seconds shared": 1000.5, "caddy_kerberos_breaker_open shared": 1,
		"caddy_kerberos_tickets other": 0, "caddy_kerberos_breaker_open other": 0,
		"caddy_kerberos_clock_offset_seconds A.EXAMPLE": -3, "caddy_kerberos_clock_offset_seconds B.EXAMPLE": -2,
	}
	maps.DeleteFunc(all, func(name string, _ float64) bool {
		return !slices.ContainsFunc([]string{"_tickets ", "_expiry_", "_open ", "_offset_"}, func(s string) bool { return strings.Contains(name, s) })
	})
	if !maps.Equal(all, want) {
		t.Errorf("got %v, want %v", all, want)
	}
}

// Of several secrets the oldest counts, and one whose age is not known makes no series.
func TestGauges_SecretAge(t *testing.T) {
	now := time.Now()
	all := samples(t, func() []Reading {
		return []Reading{
			{Identity: "shared", SecretChanged: now.Add(-time.Hour)},
			{Identity: "shared", SecretChanged: now.Add(-2 * time.Hour)},
			{Identity: "shared"},
			{Identity: "other"},
		}
	})
	const name = "caddy_kerberos_secret_age_seconds "
	if age := all[name+"shared"]; age < 7200 || age > 7200+time.Since(now).Seconds()+1 {
		t.Errorf("%f seconds", age)
	}
	if age, ok := all[name+"other"]; ok {
		t.Errorf("%f seconds of a secret whose age is not known", age)
	}
}

func TestRegister_TwiceInOneRegistry(t *testing.T) {
	registry := prometheus.NewRegistry()
	for range 2 {
		if err := Register(registry, nothing); err != nil {
			t.Fatal(err)
		}
	}
	if err := Register(nil, nothing); err != nil {
		t.Fatal(err)
	}
}

// The names are part of the interface: dashboards use them.
func TestDescriptions(t *testing.T) {
	labels := make(map[string][]string)
	for _, d := range Descriptions() {
		if labels[d.Name] = d.Labels; !strings.HasSuffix(d.Help, ".") {
			t.Errorf("%s: %q is not a sentence", d.Name, d.Help)
		}
	}
	want := map[string][]string{
		"caddy_negotiate_requests_total":               {"identity", "result"},
		"caddy_negotiate_sign_ins_total":               {"identity", "result"},
		"caddy_negotiate_token_bytes":                  nil,
		"caddy_negotiate_upstream_rejections_total":    {"identity", "code"},
		"caddy_kerberos_kdc_exchanges_total":           {"realm", "kdc", "type", "result"},
		"caddy_kerberos_kdc_exchange_duration_seconds": {"realm", "type"},
		"caddy_kerberos_cache_lookups_total":           {"identity", "result"},
		"caddy_kerberos_tickets":                       {"identity"},
		"caddy_kerberos_tgt_expiry_timestamp_seconds":  {"identity"},
		"caddy_kerberos_breaker_open":                  {"identity"},
		"caddy_kerberos_secret_age_seconds":            {"identity"},
		"caddy_kerberos_clock_offset_seconds":          {"realm"},
		"caddy_kerberos_bad_replies_total":             {"realm", "reason"},
		"caddy_kerberos_store_operations_total":        {"operation", "result"},
	}
	if !maps.EqualFunc(labels, want, slices.Equal) {
		t.Errorf("got %v, want %v", labels, want)
	}
}

// BenchmarkRequests is what each request pays for its counters.
func BenchmarkRequests(b *testing.B) {
	r := NewRequests("bench")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Lookup(cache.Cached, nil)
			r.Token(2048)
			r.Answered(false, false)
		}
	})
}
