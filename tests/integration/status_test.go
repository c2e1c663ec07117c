package integration

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestErrors_StatusAndPlaceholders(t *testing.T) {
	t.Setenv("PROXY_PASSWORD", password)
	t.Setenv("WRONG_PASSWORD", "not it")
	only := func(id enctype.ID) []kdctest.Option { return []kdctest.Option{kdctest.ETypes(id)} }
	for _, row := range []struct {
		name   string
		with   caddytest.Options
		block  func(s *site) string
		status int
		err    string
		code   string
	}{
		{
			"unknown service",
			caddytest.Options{},
			func(s *site) string {
				return caddytest.Lines(s.Login("spn HTTP/nobody.corp.example")...)
			},
			http.StatusBadGateway, "unknown_service", "7",
		},
		{
			"wrong password",
			caddytest.Options{},
			func(s *site) string {
				return caddytest.Lines("kdc "+s.KDC.Addr(), "user "+principal, "password {env.WRONG_PASSWORD}", "spn "+service)
			},
			http.StatusBadGateway, "credentials_refused", "24",
		},
		{
			"disabled account",
			caddytest.Options{Proxy: []kdctest.Option{kdctest.With(kdctest.Disabled)}},
			func(s *site) string { return s.usual() },
			http.StatusBadGateway, "credentials_refused", "18",
		},
		{
			"password must change",
			caddytest.Options{Proxy: []kdctest.Option{kdctest.With(kdctest.MustChange)}},
			func(s *site) string { return s.usual() },
			http.StatusBadGateway, "credentials_refused", "23",
		},
		{
			"unknown account",
			caddytest.Options{},
			func(s *site) string {
				return caddytest.Lines("kdc "+s.KDC.Addr(), "user nobody@"+realmName, "password {env.PROXY_PASSWORD}", "spn "+service)
			},
			http.StatusBadGateway, "credentials_refused", "6",
		},
		{
			"no type in common with the account's keys",
			caddytest.Options{Proxy: only(enctype.AES256_CTS_HMAC_SHA1_96)},
			func(s *site) string {
				return caddytest.Lines("kdc "+s.KDC.Addr(), "user "+principal, "password {env.PROXY_PASSWORD}", "spn "+service,
					"encryption_types aes128-cts-hmac-sha256-128")
			},
			http.StatusBadGateway, "no_common_etype", "14",
		},
		{
			"no type in common with the service",
			caddytest.Options{Web: only(enctype.AES256_CTS_HMAC_SHA384_192)},
			func(s *site) string { return s.usual("encryption_types aes256-cts-hmac-sha1-96") },
			http.StatusBadGateway, "no_common_etype", "14",
		},
		{
			"no KDC at the address",
			caddytest.Options{},
			func(s *site) string {
				return caddytest.Lines("kdc "+caddytest.FreeAddress(s.T), "user "+principal, "keytab "+s.Keytab, "spn "+service)
			},
			http.StatusServiceUnavailable, "kdc_unreachable", "",
		},
		{
			"KDC that cannot serve",
			caddytest.Options{},
			func(s *site) string {
				s.KDC.Use(kdctest.Fail(29)) // KDC_ERR_SVC_UNAVAILABLE
				return s.usual()
			},
			http.StatusServiceUnavailable, "kdc_unreachable", "29",
		},
		{
			"garbage from the KDC",
			caddytest.Options{},
			func(s *site) string {
				s.KDC.Use(kdctest.Garbage(3000))
				return s.usual("use_tcp")
			},
			http.StatusServiceUnavailable, "kdc_unreachable", "",
		},
		{
			"a length of four gigabytes from the KDC",
			caddytest.Options{},
			func(s *site) string {
				s.KDC.Use(kdctest.Announce(0xfffffff0))
				return s.usual("use_tcp")
			},
			http.StatusServiceUnavailable, "kdc_unreachable", "",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t, row.with)
			s.load(row.block(s))
			for range 2 { // the second is answered out of memory
				a := s.Get("/")
				a.WantError(t, row.status, row.err, row.code)
				if strings.Contains(a.Source(), "{") {
					t.Errorf("without a ticket its source is %q", a.Source())
				}
				retry := a.Header.Get("Retry-After")
				seconds, err := strconv.Atoi(retry)
				if sensible := err == nil && seconds >= 1 && seconds <= 15; sensible != (row.status == http.StatusServiceUnavailable) {
					t.Fatalf("Retry-After %q with status %d", retry, row.status)
				}
			}
			if n := s.Upstream.Requests.Load(); n != 0 {
				t.Fatalf("%d requests reached the upstream", n)
			}
		})
	}
}

func TestErrors_WrongPasswordTriedTwice(t *testing.T) {
	t.Setenv("WRONG_PASSWORD", "not it")
	s := newSite(t, caddytest.Options{})
	block := caddytest.Lines("kdc "+s.KDC.Addr(), "user "+principal, "password {env.WRONG_PASSWORD}", "spn "+service)
	s.load(block)
	for range 20 {
		s.Get("/").WantError(t, http.StatusBadGateway, "credentials_refused", "24")
	}
	s.load(block + "\n\t\ttimeout 9s") // a reload forgets nothing
	s.Get("/").WantError(t, http.StatusBadGateway, "credentials_refused", "24")
	if n := s.KDC.Counts().ASReqPreAuth; n != 2 {
		t.Fatalf("%d requests with pre-authentication, want 2", n)
	}
}
