package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// secondAccount is another account's user and keytab.
func (s *site) secondAccount(name string) (user, keytab string) {
	s.T.Helper()
	p := s.Realm.AddUser(name, "another secret")
	return name + "@" + realmName, s.Write(name+".keytab", s.KeysOf(p))
}

// ridesOf makes requests to each address in turn, many at a time, and returns whom
// the upstream saw on which of its connections.
func (s *site) ridesOf(n int, addresses ...string) map[int64]map[string]bool {
	s.T.Helper()
	client := s.Client()
	var mu sync.Mutex
	rides := make(map[int64]map[string]bool)
	errs := caddytest.Parallel(n, 16, func(i int) error {
		at := i % len(addresses)
		r, err := http.NewRequestWithContext(s.T.Context(), http.MethodGet, "http://"+addresses[at]+"/json", nil)
		if err != nil {
			return err
		}
		a, err := caddytest.Ask(client, r)
		if err != nil {
			return err
		}
		var who kdctest.Peer
		if err := json.Unmarshal([]byte(a.Body), &who); err != nil {
			return fmt.Errorf("%d %q: %w", a.Status, a.Body, err)
		}
		if want := a.Header.Get("X-Account"); who.Principal != want {
			return fmt.Errorf("the upstream saw %s, not %s", who.Principal, want)
		}
		mu.Lock()
		defer mu.Unlock()
		if rides[who.Connection] == nil {
			rides[who.Connection] = make(map[string]bool)
		}
		rides[who.Connection][who.Principal] = true
		return nil
	})
	if len(errs) > 0 {
		s.T.Fatalf("%d requests failed, first: %v", len(errs), errs[0])
	}
	return rides
}

// An upstream that binds identities to connections must not see two of them on one.
func TestConnections_PerIdentity(t *testing.T) {
	for _, perConnection := range []string{"off", "on"} {
		t.Run("per_connection "+perConnection, func(t *testing.T) {
			caddytest.LeakCheck(t)
			s := newSite(t, caddytest.Options{})
			p := s.serve(service, kdctest.AcceptorConfig{PerConnection: true}, kdctest.UpstreamConfig{})
			other, keytab := s.secondAccount("svc-other")
			second := caddytest.FreeAddress(t)
			to := func(identity, account string) string {
				return proxying(p.Addr(), "header_down X-Account "+account,
					caddytest.Block("transport negotiate "+identity, "spn "+service, "per_connection "+perConnection))
			}
			global := caddytest.Block("kerberos",
				caddytest.Block("identity one", "kdc "+s.KDC.Addr(), "user "+principal, "keytab "+s.Keytab),
				caddytest.Block("identity two", "kdc "+s.KDC.Addr(), "user "+other, "keytab "+keytab))
			caddytest.Load(s.T, s.config(global, to("one", principal))+caddytest.Site(second, to("two", other)))
			for id, riders := range s.ridesOf(600, s.Addr, second) {
				if len(riders) > 1 {
					t.Errorf("connection %d carried %v", id, riders)
				}
			}
			c := p.acceptor.Counts()
			if len(c.Refused) > 0 {
				t.Errorf("refused %v", c.Refused)
			}
			if persisted := c.Persisted > 0; persisted != (perConnection == "on") {
				t.Errorf("%d requests by their connection, %d by tokens", c.Persisted, c.Accepted)
			}
		})
	}
}

func TestPerConnection_OneToken(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	p := s.serve(service, kdctest.AcceptorConfig{PerConnection: true}, kdctest.UpstreamConfig{})
	s.run(p.Addr(), "spn "+service, "per_connection")
	client := s.Client()
	for range 20 {
		a, err := caddytest.Ask(client, s.Request(http.MethodGet, "/"))
		if err != nil {
			t.Fatal(err)
		}
		a.WantUser(t, principal)
	}
	if c := p.acceptor.Counts(); int64(c.Accepted) != p.Connections.Load() || c.Accepted+c.Persisted != 20 || c.Missing > 0 {
		t.Errorf("%d tokens on %d connections, %d requests without", c.Accepted, p.Connections.Load(), c.Persisted)
	}
	// What cannot be sent twice brings its token: it may be refused.
	before := p.acceptor.Counts().Accepted
	large := strings.Repeat("x", 300_000)
	if a := s.post("/echo", strings.NewReader(large)); a.Status != http.StatusOK || a.Body != large {
		t.Errorf("POST: %d, %d bytes", a.Status, len(a.Body))
	}
	if n := p.acceptor.Counts().Accepted - before; n != 1 {
		t.Errorf("%d tokens with a body that is not kept, want 1", n)
	}
}

func TestPerConnection_Fallback(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.run(s.Upstream.Addr(), "spn "+service, "per_connection")
	client := s.Client()
	for i := range 50 {
		method, body := http.MethodGet, ""
		if i%2 == 1 {
			method, body = http.MethodPost, strings.Repeat("x", 1000)
		}
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL("/echo"), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		a, err := caddytest.Ask(client, r)
		if err != nil || a.Status != http.StatusOK || a.Body != body {
			t.Fatalf("request %d: %d, %d bytes, %v", i, a.Status, len(a.Body), err)
		}
	}
	c := s.Acceptor.Counts()
	if c.Missing == 0 || c.Missing > 3 || c.Accepted != 50 || len(c.Refused) > 0 {
		t.Errorf("%d tokens, %d requests without one, refused %v", c.Accepted, c.Missing, c.Refused)
	}
	if n := s.Log.Count("per_connection: the upstream wants a token in each request"); n != 1 {
		t.Errorf("warned %d times, want once", n)
	}
	s.WantCounts(1, 1) // no ticket was refused
}

func TestMutualAuth_Transport(t *testing.T) {
	for _, row := range []struct {
		name     string
		behind   func(s *site) http.HandlerFunc
		on       int // the status with mutual_auth on; 0 for a local answer
		required int
	}{
		{"proof", func(s *site) http.HandlerFunc {
			return s.Acceptor.Protect(http.HandlerFunc(kdctest.WhoHandler)).ServeHTTP
		}, 200, 200},
		{"no proof", func(*site) http.HandlerFunc { return answering(200, "") }, 200, 502},
		{"wrong proof", func(*site) http.HandlerFunc {
			return answering(200, "Negotiate oRQwEqADCgEAoQsGCSqGSIb3EgECAqIEBAIBAA==")
		}, 502, 502},
		{"garbage", func(*site) http.HandlerFunc { return answering(200, "Negotiate !!") }, 502, 502},
		{"refusal", func(*site) http.HandlerFunc { return answering(401, "Negotiate") }, 401, 401},
		{"other refusal", func(*site) http.HandlerFunc { return answering(401, "Basic") }, 401, 401},
		{"not found", func(*site) http.HandlerFunc { return answering(404, "") }, 404, 502},
		{"upgrade", func(*site) http.HandlerFunc { return hijacking }, 101, 502},
	} {
		t.Run(row.name, func(t *testing.T) {
			for setting, want := range map[string]int{"off": row.on, "on": row.on, "required": row.required} {
				if setting == "off" && want == http.StatusBadGateway {
					want = http.StatusOK
				}
				s := newSite(t, caddytest.Options{})
				s.behind(row.behind(s))
				s.run(s.target, "spn "+service, "mutual_auth "+setting)
				a := s.raw("GET / HTTP/1.1\nHost: " + s.Addr + "\nConnection: Upgrade\nUpgrade: x\n\n")
				if want == http.StatusBadGateway {
					a.WantError(t, want, "mutual_auth_failed")
				} else if a.Status != want {
					t.Errorf("mutual_auth %s: %d %q, want %d", setting, a.Status, a.Body, want)
				}
			}
		})
	}
}

// answering is an upstream that gives one answer, and a secret in its body.
func answering(status int, challenge string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if challenge != "" {
			w.Header().Set("WWW-Authenticate", challenge)
		}
		http.Error(w, "a secret", status)
	}
}

// hijacking upgrades without a proof, and ends.
func hijacking(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "x")
	w.WriteHeader(http.StatusSwitchingProtocols)
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		conn.Close()
	}
}
