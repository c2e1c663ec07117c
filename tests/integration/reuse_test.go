package integration

import (
	"fmt"
	"net/http"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

const manyRequests = 200

// getMany sends 200 requests over 16 kept connections, each of which the upstream must
// authenticate by a token of its own.
func (s *site) getMany() {
	s.T.Helper()
	s.GetMany(manyRequests, 16, "/", func(a caddytest.Answer) bool { return a.IsUser(principal) })
	if n := s.Acceptor.Counts().Accepted; n != manyRequests {
		s.T.Fatalf("the upstream accepted %d tokens, want %d", n, manyRequests)
	}
}

func TestReuse_ManyRequestsOneTicket(t *testing.T) {
	t.Setenv("PROXY_PASSWORD", password)
	sha2 := []enctype.ID{enctype.AES256_CTS_HMAC_SHA384_192, enctype.AES128_CTS_HMAC_SHA256_128}
	type row struct {
		name  string
		with  caddytest.Options
		lines func(s *site) []string
	}
	keytab := func(more ...string) func(s *site) []string {
		return func(s *site) []string { return append([]string{"keytab " + s.Keytab}, more...) }
	}
	rows := []row{
		{"keytab", caddytest.Options{}, keytab()},
		{"password", caddytest.Options{}, func(*site) []string { return []string{"password {env.PROXY_PASSWORD}"} }},
		{"password file", caddytest.Options{}, func(s *site) []string {
			return []string{"password_file " + s.Write("password", []byte(password+"\n"))}
		}},
		{"use_tcp", caddytest.Options{}, keytab("use_tcp")},
		{"SHA-2 keys only", caddytest.Options{Proxy: []kdctest.Option{kdctest.ETypes(sha2...)}, Web: []kdctest.Option{kdctest.ETypes(sha2...)}}, keytab()},
	}
	for _, id := range []enctype.ID{
		enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96,
		enctype.AES256_CTS_HMAC_SHA384_192, enctype.AES128_CTS_HMAC_SHA256_128,
	} {
		with := caddytest.Options{Proxy: []kdctest.Option{kdctest.ETypes(id)}, Web: []kdctest.Option{kdctest.ETypes(id)}}
		rows = append(rows, row{id.String(), with, keytab("encryption_types " + id.String())})
		rows = append(rows, row{id.String() + " by password", with, func(*site) []string {
			return []string{"password {env.PROXY_PASSWORD}", "encryption_types " + id.String()}
		}})
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t, row.with)
			s.Realm.Principal("krbtgt/" + realmName).Set(kdctest.SessionETypes(enctype.Strong()...))
			s.load(caddytest.Lines(append(row.lines(s), "kdc "+s.KDC.Addr(), "user "+principal, "spn "+service)...))
			s.getMany()
			s.WantCounts(1, 1)
			c := s.KDC.Counts()
			if row.name == "use_tcp" && c.UDP != 0 {
				t.Fatalf("%d datagrams in spite of use_tcp", c.UDP)
			}
			if row.name == "keytab" && c.TCP != 0 {
				t.Fatalf("%d streams, where datagrams do", c.TCP)
			}
			if len(row.with.Web) > 0 {
				r := s.Request(http.MethodGet, "/json")
				if peer := caddytest.Do(s.T, r).Peer(t); row.name != "SHA-2 keys only" && (peer.TicketEType != peer.SessionEType || peer.TicketEType == "") {
					t.Fatalf("ticket of %s, session key of %s", peer.TicketEType, peer.SessionEType)
				}
			}
		})
	}
}

func TestReuse_Reloads(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.load(s.usual())
	s.Get("/").WantUser(t, principal)
	s.KDC.Stop()
	for i := range 3 {
		s.load(s.usual(fmt.Sprintf("timeout %ds", 5+i)))
		s.Get("/").WantUser(t, principal)
	}
	s.WantCounts(1, 1)
}

func TestLoginAtStart(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.load(s.usual())
	s.awaitLogin()
	s.WantCounts(1, 0)
	s.Get("/").WantUser(t, principal)
	s.WantCounts(1, 1)
}

func TestLoginAtStart_Off(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.load(s.usual("login_at_start off"))
	if c := s.KDC.Counts(); c.UDP+c.TCP != 0 {
		t.Fatalf("asked %d times", c.UDP+c.TCP)
	}
	s.Get("/").WantUser(t, principal)
	s.WantCounts(1, 1)
}

func TestStop_NoGoroutinesLeft(t *testing.T) {
	caddytest.LeakCheck(t)
	s := newSite(t, caddytest.Options{})
	s.load(s.usual("mutual_auth on"))
	s.getMany()
	s.load(s.usual())
	s.Get("/").WantUser(t, principal)
}

func TestStop_DuringLogin(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	gate := kdctest.NewGate()
	t.Cleanup(gate.Release)
	s.KDC.Use(gate.Slow())
	before := goleak.IgnoreCurrent()
	s.load(s.usual("timeout 10m"))
	must.Receive(t, "a request to the KDC", gate.Arrived())
	caddytest.Stop(t)
	// The KDC is silent still.
	if err := caddytest.Leftovers(before, goleak.IgnoreAnyFunction("github.com/caddy-negotiate/caddy-negotiate/tests/kdctest.(*KDC).answer")); err != nil {
		t.Error(err)
	}
}
