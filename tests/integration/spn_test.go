package integration

import (
	"net/http"
	"strings"
	"testing"

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
