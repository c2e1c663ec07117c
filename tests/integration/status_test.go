package integration

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestErrorsReachHandleErrorsWithStatusAndPlaceholders(t *testing.T) {
	t.Setenv("PROXY_PASSWORD", password)
	t.Setenv("WRONG_PASSWORD", "not it")
	only := func(id enctype.ID) []kdctest.Option { return []kdctest.Option{kdctest.ETypes(id)} }
	for _, row := range []struct {
		name   string
		setup  setup
		block  func(s *site) string
		status int
		err    string
		code   string
	}{
		{
			"unknown service", setup{},
			func(s *site) string {
				return lines("kdc "+s.kdc.Addr(), "user "+principal, "keytab "+s.keytab, "spn HTTP/nobody.corp.example")
			},
			http.StatusBadGateway, "unknown_service", "7",
		},
		{
			"wrong password", setup{},
			func(s *site) string {
				return lines("kdc "+s.kdc.Addr(), "user "+principal, "password {env.WRONG_PASSWORD}", "spn "+service)
			},
			http.StatusBadGateway, "credentials_refused", "24",
		},
		{
			"disabled account", setup{proxy: []kdctest.Option{kdctest.With(kdctest.Disabled)}},
			func(s *site) string { return s.usual() },
			http.StatusBadGateway, "credentials_refused", "18",
		},
		{
			"password must change", setup{proxy: []kdctest.Option{kdctest.With(kdctest.MustChange)}},
			func(s *site) string { return s.usual() },
			http.StatusBadGateway, "credentials_refused", "23",
		},
		{
			"unknown account", setup{},
			func(s *site) string {
				return lines("kdc "+s.kdc.Addr(), "user nobody@"+realmName, "password {env.PROXY_PASSWORD}", "spn "+service)
			},
			http.StatusBadGateway, "credentials_refused", "6",
		},
		{
			"no type in common with the account's keys", setup{proxy: only(enctype.AES256_CTS_HMAC_SHA1_96)},
			func(s *site) string {
				return lines("kdc "+s.kdc.Addr(), "user "+principal, "password {env.PROXY_PASSWORD}", "spn "+service,
					"encryption_types aes128-cts-hmac-sha256-128")
			},
			http.StatusBadGateway, "no_common_etype", "14",
		},
		{
			"no type in common with the service", setup{web: only(enctype.AES256_CTS_HMAC_SHA384_192)},
			func(s *site) string { return s.usual("encryption_types aes256-cts-hmac-sha1-96") },
			http.StatusBadGateway, "no_common_etype", "14",
		},
		{
			"nobody at the KDC's address", setup{},
			func(s *site) string {
				return lines("kdc "+freeAddress(s.t), "user "+principal, "keytab "+s.keytab, "spn "+service)
			},
			http.StatusServiceUnavailable, "kdc_unreachable", "",
		},
		{
			"KDC that cannot serve", setup{},
			func(s *site) string {
				s.kdc.Use(kdctest.Fail(29)) // KDC_ERR_SVC_UNAVAILABLE
				return s.usual()
			},
			http.StatusServiceUnavailable, "kdc_unreachable", "29",
		},
		{
			"garbage from the KDC", setup{},
			func(s *site) string {
				s.kdc.Use(kdctest.Garbage(3000))
				return s.usual("use_tcp")
			},
			http.StatusServiceUnavailable, "kdc_unreachable", "",
		},
		{
			"a length of four gigabytes from the KDC", setup{},
			func(s *site) string {
				s.kdc.Use(kdctest.Announce(0xfffffff0))
				return s.usual("use_tcp")
			},
			http.StatusServiceUnavailable, "kdc_unreachable", "",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t, row.setup)
			s.load(row.block(s))
			for range 2 { // the second is answered out of memory
				a := s.get("/")
				a.wantError(t, row.status, row.err, row.code)
				retry := a.header.Get("Retry-After")
				seconds, err := strconv.Atoi(retry)
				if sensible := err == nil && seconds >= 1 && seconds <= 15; sensible != (row.status == http.StatusServiceUnavailable) {
					t.Fatalf("Retry-After %q with status %d", retry, row.status)
				}
			}
			if n := s.upstream.Requests.Load(); n != 0 {
				t.Fatalf("%d requests reached the upstream", n)
			}
		})
	}
}

func TestWrongPasswordIsTriedTwiceHoweverManyAsk(t *testing.T) {
	t.Setenv("WRONG_PASSWORD", "not it")
	s := newSite(t, setup{})
	block := lines("kdc "+s.kdc.Addr(), "user "+principal, "password {env.WRONG_PASSWORD}", "spn "+service)
	s.load(block)
	for range 20 {
		s.get("/").wantError(t, http.StatusBadGateway, "credentials_refused", "24")
	}
	s.load(block + "\n\t\ttimeout 9s") // a reload forgets nothing
	s.get("/").wantError(t, http.StatusBadGateway, "credentials_refused", "24")
	if n := s.kdc.Counts().ASReqPreAuth; n != 2 {
		t.Fatalf("%d requests with pre-authentication, want 2", n)
	}
}

func TestHeldTicketServesWhileNoKDCDoes(t *testing.T) {
	s := newSite(t, setup{})
	s.load(s.usual())
	s.get("/").wantOK(t)
	s.kdc.Stop()
	s.get("/").wantOK(t)
	s.load(s.usual("timeout 2s"))
	s.get("/").wantOK(t)
}

func TestKDCThatComesUpLaterServes(t *testing.T) {
	s := newSite(t, setup{})
	if err := s.kdc.Interrupt(); err != nil {
		t.Fatal(err)
	}
	s.load(s.usual("timeout 5s"))
	s.get("/").wantError(t, http.StatusServiceUnavailable, "kdc_unreachable", "")
	if err := s.kdc.Start(); err != nil {
		t.Fatal(err)
	}
	// The outage is remembered for seconds; clients come back when they are told to.
	for tries := 0; ; tries++ {
		a := s.get("/")
		if a.status == http.StatusOK {
			break
		}
		a.wantError(t, http.StatusServiceUnavailable, "kdc_unreachable", "")
		seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
		if err != nil || tries > 5 {
			t.Fatalf("still %d after %d tries, Retry-After %q", a.status, tries, a.header.Get("Retry-After"))
		}
		select {
		case <-time.After(time.Duration(seconds) * time.Second):
		case <-t.Context().Done():
			t.Fatal("never came back")
		}
	}
	s.wantCounts(1, 1)
}
