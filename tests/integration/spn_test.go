package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

func TestSPN_FromRequest(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.Realm.AddService("HTTP/outside.example")
	s.load(caddytest.Lines(s.Login("spn HTTP/{http.request.header.X-Service}", "allow_spns HTTP/*.corp.example")...))
	for _, row := range []struct {
		host   string
		status int
		err    string
		code   string
	}{
		{"web.corp.example", http.StatusOK, "", ""},
		{"WEB.Corp.Example", http.StatusOK, "", ""},
		{"outside.example", http.StatusForbidden, "spn_not_allowed", ""},
		{"web.corp.example.evil.example", http.StatusForbidden, "spn_not_allowed", ""},
		{"a/b.corp.example", http.StatusBadRequest, "bad_spn", ""},
		{"b@c.corp.example", http.StatusBadRequest, "bad_spn", ""},
		{`b\c.corp.example`, http.StatusBadRequest, "bad_spn", ""},
		{"{env.HOME}.corp.example", http.StatusBadRequest, "bad_spn", ""},
		{"a b.corp.example", http.StatusBadRequest, "bad_spn", ""},
		{"a..corp.example", http.StatusBadRequest, "bad_spn", ""},
		{".corp.example", http.StatusBadRequest, "bad_spn", ""},
		{strings.Repeat("a.", 130) + "corp.example", http.StatusBadRequest, "bad_spn", ""},
		{"", http.StatusBadRequest, "bad_spn", ""},
		{"nobody.corp.example", http.StatusBadGateway, "unknown_service", "7"},
	} {
		t.Run(row.host, func(t *testing.T) {
			s := *s
			s.T = t
			r := s.Request(http.MethodGet, "/")
			if row.host != "" {
				r.Header.Set("X-Service", row.host)
			}
			a := caddytest.Do(s.T, r)
			if row.status == http.StatusOK {
				a.WantUser(t, principal)
				return
			}
			a.WantError(t, row.status, row.err, row.code)
		})
	}
	if n := s.KDC.Counts().TGSRep; n != 1 {
		t.Errorf("%d tickets, want 1: capitals are the same service", n)
	}
}

func TestSPN_RequestHost(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.load(caddytest.Lines(s.Login("spn HTTP/{http.request.host}", "allow_spns HTTP/*.corp.example")...))
	s.raw("GET / HTTP/1.1\nHost: web.corp.example:8080\n\n").WantUser(t, principal)
	s.raw("GET / HTTP/1.1\nHost: web.other.example\n\n").WantError(t, http.StatusForbidden, "spn_not_allowed", "")
	s.raw("GET / HTTP/1.1\nHost: web_\n\n").WantError(t, http.StatusForbidden, "spn_not_allowed", "")
	s.WantCounts(1, 1)
}

// chosen is a source of dynamic upstreams that, like srv, replaces the placeholders of its
// settings.
type chosen struct {
	At any `json:"at"`
}

func init() { caddy.RegisterModule(new(chosen)) }

func (*chosen) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.upstreams.test_chosen", New: func() caddy.Module { return new(chosen) }}
}

// GetUpstreams implements reverseproxy.UpstreamSource.
func (c *chosen) GetUpstreams(r *http.Request) ([]*reverseproxy.Upstream, error) {
	at := c.At
	if list, ok := at.([]any); ok {
		at = list[0]
	}
	port := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).ReplaceAll(at.(string), "")
	return []*reverseproxy.Upstream{{Dial: "127.0.0.1:" + port}}, nil
}

// A client that chooses the upstream chooses the service, whether a static address or a
// dynamic source makes the upstream from the request.
func TestSPN_DynamicUpstreams(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	_, port, _ := strings.Cut(s.target, ":")
	t.Setenv("WEB_PORT", port)
	for _, row := range []struct {
		name, at, more string
		status         int
	}{
		{"from the request", `"{http.request.header.X-Port}"`, "", http.StatusForbidden},
		{"in a list", `["{http.request.header.X-Port}"]`, "", http.StatusForbidden},
		{"escaped", `"\u007bhttp.request.header.X-Port}"`, "", http.StatusForbidden},
		{"of an unknown kind", `"{test.unknown}` + port + `"`, "", http.StatusForbidden},
		{"not allowed", `"{http.request.header.X-Port}"`, `, "allow_spns": ["HTTP/other.corp.example"]`, http.StatusForbidden},
		{"allowed", `"{http.request.header.X-Port}"`, `, "allow_spns": ["HTTP/*.corp.example"]`, http.StatusOK},
		{"fixed", `"` + port + `"`, "", http.StatusOK},
		{"from the environment", `"{env.WEB_PORT}"`, "", http.StatusOK},
	} {
		t.Run(row.name, func(t *testing.T) {
			adapted, _, err := caddytest.Adapt(s.config("", proxying("", "to 127.0.0.1:1", s.negotiating("spn "+service))))
			if err != nil {
				t.Fatal(err)
			}
			text := replaceOnce(t, string(adapted), `"upstreams":[{"dial":"127.0.0.1:1"}]`, `"dynamic_upstreams": {"source": "test_chosen", "at": `+row.at+`}`)
			text = replaceOnce(t, text, `"spn":"`+service+`"`, `"spn":"`+service+`"`+row.more)
			if err := caddytest.TryLoadJSON(t, []byte(text)); err != nil {
				t.Fatal(err)
			}
			a := s.Get("/", func(r *http.Request) { r.Header.Set("X-Port", port) })
			if row.status == http.StatusOK {
				a.WantUser(t, principal)
				return
			}
			a.WantError(t, row.status, "spn_not_allowed")
		})
	}
}
