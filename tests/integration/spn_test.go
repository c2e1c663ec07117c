package integration

import (
	"net/http"
	"strings"
	"testing"
)

func replaceOnce(t *testing.T, text, old, new string) string {
	t.Helper()
	if strings.Count(text, old) != 1 {
		t.Fatalf("%q is not there once", old)
	}
	return strings.Replace(text, old, new, 1)
}

func TestHostOfTheRequestChoosesTheServiceWithinBounds(t *testing.T) {
	s := newSite(t, setup{})
	s.realm.AddService("HTTP/outside.example")
	s.load(lines("kdc "+s.kdc.Addr(), "user "+principal, "keytab "+s.keytab,
		"spn HTTP/{http.request.header.X-Service}", "allow_spns HTTP/*.corp.example"))
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
			s.t = t
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url("/"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if row.host != "" {
				r.Header.Set("X-Service", row.host)
			}
			a := s.do(r)
			if row.status == http.StatusOK {
				a.wantOK(t)
				return
			}
			a.wantError(t, row.status, row.err, row.code)
		})
	}
	if n := s.kdc.Counts().TGSRep; n != 1 {
		t.Errorf("%d tickets, want 1: capitals are the same service", n)
	}
}

func TestRequestHostNamesTheService(t *testing.T) {
	s := newSite(t, setup{})
	s.load(lines("kdc "+s.kdc.Addr(), "user "+principal, "keytab "+s.keytab,
		"spn HTTP/{http.request.host}", "allow_spns HTTP/*.corp.example"))
	s.raw("GET / HTTP/1.1\nHost: web.corp.example:8080\n\n").wantOK(t)
	s.raw("GET / HTTP/1.1\nHost: web.other.example\n\n").wantError(t, http.StatusForbidden, "spn_not_allowed", "")
	s.raw("GET / HTTP/1.1\nHost: web_\n\n").wantError(t, http.StatusForbidden, "spn_not_allowed", "")
	s.wantCounts(1, 1)
}
