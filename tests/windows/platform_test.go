package windows

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// The tickets are those of KRB5CCNAME: Wine's Kerberos is MIT's.
func TestPlatform(t *testing.T) {
	s := newSite(t, "platform")
	ccache := s.Tools.CCache()
	env := []string{"KRB5CCNAME=FILE:" + ccache}
	unknown := caddytest.FreeAddress(t)
	s.run(s.config(
		s.block(s.Addr, "platform", "spn HTTP/"+host, "mutual_auth required"),
		s.block(unknown, "platform", "spn HTTP/nobody.lab.test"),
	), env...)

	empty := s.get(s.Addr, "/")
	empty.WantError(t, http.StatusBadGateway, "credentials_missing")
	if empty.Header.Get("Retry-After") == "" || !strings.Contains(s.Caddy.Output(t), "caddy kerberos check --platform") {
		t.Errorf("%v, without Retry-After or a remedy in the log", empty)
	}

	s.Tools.Kinit("alice", "alice's password")
	s.becomes("requests are alice's", isUser("alice@"+realm))
	if a := s.get(s.Addr, "/"); a.Source() != "platform" {
		t.Errorf("source %q", a.Source())
	}
	s.manyRequests("alice@" + realm)
	s.get(unknown, "/").WantError(t, http.StatusBadGateway, "unknown_service")
	s.shown(env)

	s.Tools.Kinit("bob", "bob's password")
	s.becomes("requests are bob's", isUser("bob@"+realm))
	memory, files := s.Caddy.Usage(t)
	s.manyRequests("bob@" + realm)
	after, open := s.Caddy.Usage(t)
	t.Logf("a thousand contexts: memory %d KiB before, %d after; %d files open before, %d after", memory>>10, after>>10, files, open)
	if after > memory+32<<20 || open > files+500 { // connections come and go
		t.Error("a thousand contexts leave something behind")
	}

	s.refusedTicket()

	must.Do(t, os.Remove(ccache))
	s.becomes("there are no tickets", func(a caddytest.Answer) bool { return a.IsError(http.StatusBadGateway, "credentials_missing") })
}

// manyRequests sends 1000 requests, 16 at a time. Each must have a token of its own, and its answer
// a proof.
func (s *site) manyRequests(user string) {
	s.T.Helper()
	before := len(s.Apache.Accesses(s.T, 1))
	caddytest.All(s.T, 1000, 16, func(int) error {
		a, err := s.ask(s.Addr, "/")
		if err == nil && !isUser(user)(a) {
			err = fmt.Errorf("%v as %q", a, userOf(a))
		}
		return err
	})
	seen := make(map[string]bool)
	for _, r := range s.Apache.Accesses(s.T, before+1000)[before:] {
		if r.Status != http.StatusOK || r.User != user || seen[r.Authorization] {
			s.T.Fatalf("%d as %q, a token that came before: %t", r.Status, r.User, seen[r.Authorization])
		}
		seen[r.Authorization] = true
	}
	if n := s.Apache.Replays(s.T); n > 0 || len(seen) != 1000 {
		s.T.Errorf("%d replays, %d tokens", n, len(seen))
	}
}

// shown is what operators see.
func (s *site) shown(env []string) {
	s.T.Helper()
	for args, want := range map[string][]string{
		"tickets --address " + s.Admin:                      {"HTTP/" + host, "1 ticket"},
		"identities --address " + s.Admin:                   {"platform", "Windows"},
		"identities --json --address " + s.Admin:            {`"kind": "platform"`},
		"tickets --json --address " + s.Admin:               {`"service": "HTTP/` + host + "@" + realm + `"`, `"ticket_etype"`},
		"check --platform --spn HTTP/" + host:               {"packages", "Kerberos", "cache", "krbtgt/" + realm, "ticket", "HTTP/" + host, "OK"},
		"check --config " + s.Wine.Path(s.Dir+"/Caddyfile"): {"Windows has the tickets", "HTTP/" + host, "nobody.lab.test"},
	} {
		out, err := s.command(env, strings.Fields(args)...)
		if strings.HasPrefix(args, "check --config") == (err == nil) { // one of its services is not known
			s.T.Errorf("%s: %v\n%s", args, err, out)
		}
		for _, text := range want {
			if !strings.Contains(out, text) {
				s.T.Errorf("%s: no %s in\n%s", args, text, out)
			}
		}
	}
	out, err := s.command(env, "check", "--platform", "--url", "http://"+s.Apache.Addr()+"/", "--spn", "HTTP/"+host)
	if err != nil || !strings.Contains(out, "200") || !strings.Contains(out, "proved its identity") {
		s.T.Errorf("check --platform: %v\n%s", err, out)
	}
	if out, err := s.command([]string{"KRB5CCNAME=FILE:" + filepath.Join(s.Dir, "absent")}, "check", "--platform", "--spn", "HTTP/"+host); err == nil || !strings.Contains(out, "SEC_E_NO_CREDENTIALS") {
		s.T.Errorf("check --platform without tickets: %v\n%s", err, out)
	}
	// The host is in the hosts file and not in the DNS.
	if out, err := s.command(env, "check", "--platform", "--spn", "HTTP/localhost"); err == nil || strings.Contains(out, "DNS") || !strings.Contains(out, "setspn -Q") {
		s.T.Errorf("check --platform of a host without the service: %v\n%s", err, out)
	}
	answer, err := http.Get("http://" + s.Admin + "/metrics")
	must.Do(s.T, err)
	metrics := must.OK(caddytest.Read(answer))(s.T).Body
	for _, want := range []string{"caddy_negotiate_requests_total{", "caddy_kerberos_tickets{", "caddy_kerberos_cache_lookups_total{"} {
		if !strings.Contains(metrics, want) {
			s.T.Errorf("metrics without %s", want)
		}
	}
}

// refusedTicket has the service change its key. Windows would be told to forget the old ticket; Wine
// cannot, and the log says what to do.
func (s *site) refusedTicket() {
	s.T.Helper()
	s.KDC.Kadmin(s.T, "cpw -randkey HTTP/"+host)
	s.Apache.ReloadKeytab(s.T)
	if a := s.get(s.Addr, "/"); a.Status != http.StatusUnauthorized || a.Word() != "token_refused" {
		s.T.Errorf("a refused ticket: %v", a)
	}
	if out := s.Caddy.Output(s.T); !strings.Contains(out, "klist purge") {
		s.T.Error("the log does not say how the ticket is forgotten")
	}
}
