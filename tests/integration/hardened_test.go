package integration

import (
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// machine adds an account for armor and gives its keytab.
func (s *site) machine() string {
	s.T.Helper()
	return s.Write("machine.keytab", s.KeysOf(s.Realm.AddUser("machine$", "a secret of the machine")))
}

func TestFAST_DemandedByTheKDC(t *testing.T) {
	s := newSite(t, caddytest.Options{Proxy: []kdctest.Option{kdctest.With(kdctest.ArmoredOnly)}})
	s.load(s.usual())
	s.Get("/").WantError(t, 502, "credentials_refused", "12")
	caddytest.Stop(t) // and the pause after the refusal with it
	s.KDC.ResetCounts()
	s.load(s.usual("fast_armor keytab " + s.machine()))
	s.Get("/").WantUser(t, principal)
	c := s.KDC.Counts()
	if c.Armored != 3 || c.Clients["machine$@"+realmName].ASRep != 1 || c.Clients[principal].ASReqPreAuth != 1 {
		t.Errorf("counts %+v", c)
	}
}

// A KDC that does not take part in FAST gets no proof of the key.
func TestFAST_NoFallback(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	armor := s.machine()
	s.Realm.DisableFAST()
	s.load(s.usual("fast_armor keytab " + armor))
	s.Get("/").WantError(t, 502, "credentials_refused", "25")
	if c := s.KDC.Counts(); c.Clients[principal].ASReqPreAuth != 0 || c.Clients["machine$@"+realmName].ASRep == 0 {
		t.Errorf("counts %+v", c)
	}
	if !s.Log.Contains("FAST") {
		t.Error("the log does not tell of FAST")
	}
}

// Any attacker can forge an error without armor: it opens no breaker.
func TestFAST_UnarmoredErrors(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	armor := s.machine()
	forge := kdctest.Only(func(q *kdctest.Question) bool {
		req, err := messages.ParseKDCReq(q.Message)
		if err != nil {
			return false
		}
		_, armored := req.PAData.Find(messages.PA_FX_FAST)
		return armored && q.IsAS()
	}, kdctest.Fail(messages.KDC_ERR_PREAUTH_FAILED))
	s.KDC.Use(forge)
	s.load(s.usual("login_at_start off", "fast_armor keytab "+armor))
	s.Get("/").WantError(t, 502, "credentials_refused", "24")
	s.KDC.ClearFaults()
	// The same identity with its breaker, but tickets of its own, so that the second for which any failure is remembered is over.
	s.load(s.usual("login_at_start off", "fast_armor keytab "+armor, "encryption_types aes256-cts-hmac-sha1-96"))
	s.Get("/").WantUser(t, principal)
}

func TestSPAKE_OnlyMechanism(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.Realm.SetPreAuth(messages.PA_SPAKE)
	s.load(s.usual())
	s.Get("/").WantUser(t, principal)
	s.WantCounts(1, 1)
}

func TestSPAKE_SecondFactor(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.Realm.SetPreAuth(messages.PA_SPAKE)
	s.Realm.SetSPAKE(kdctest.SPAKE{SecondFactor: true})
	s.load(s.usual())
	s.Get("/").WantError(t, 502, "credentials_refused", "")
	if !s.Log.Contains("demands a second factor") {
		t.Error("the log does not tell of the second factor")
	}
}

// A proxy of the KDC, with an authority and a client's certificate of our own, among others in one order of preference.
func TestKDCProxy_Order(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	proxy := httptest.NewUnstartedServer(s.KDC.Proxy())
	proxy.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	cert := proxy.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	ca := s.Write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	keyFile := s.Write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	for name, c := range map[string]struct {
		kdcs          string
		https, direct bool
	}{
		"first":           {proxy.URL + "/KdcProxy " + s.KDC.Addr(), true, false},
		"behind the dead": {"tcp/" + caddytest.FreeAddress(t) + " " + proxy.URL + "/KdcProxy", true, false},
		"last":            {s.KDC.Addr() + " " + proxy.URL + "/KdcProxy", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			for hedged := true; hedged; {
				const asked = `"kdc hedging"` // on a busy machine the first KDC is thought slow: that shows nothing
				before := s.Log.Count(asked)
				s.KDC.ResetCounts()
				s.load(caddytest.Lines("kdc "+c.kdcs, "user "+principal, "keytab "+s.Keytab, "spn "+service, "trace",
					"encryption_types aes256-cts-hmac-sha1-96", // tickets of its own
					"kdc_options {", "tls_ca "+ca, "tls_client_cert "+ca+" "+keyFile, "}"))
				s.Get("/").WantUser(t, principal)
				n := s.KDC.Counts()
				hedged = s.Log.Count(asked) > before
				if !hedged && ((n.HTTPS > 0) != c.https || (n.UDP+n.TCP > 0) != c.direct) {
					t.Errorf("https %d, udp %d, tcp %d", n.HTTPS, n.UDP, n.TCP)
				}
				caddytest.Stop(t) // and the tickets go
			}
		})
	}
}

// fips runs tests of this binary again in a process where FIPS 140 is enforced, which is decided when it starts.
func fips(t *testing.T, run string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^("+run+")$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "--- SKIP") || strings.Count(string(out), "--- PASS") < 1+strings.Count(run, "|") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestFIPS140(t *testing.T) {
	fips(t, "TestApproved_Enforced|TestApproved_Request|TestApproved_FAST|TestApproved_OthersRejected")
}

// The tests below are for the process that TestFIPS140 starts. In any other they hold what is true there as well.

// Without effect on the other process the tests there would pass for nothing.
func TestApproved_Enforced(t *testing.T) {
	if wanted := strings.Contains(os.Getenv("GODEBUG"), "fips140=only"); fips140.Enforced() != wanted {
		t.Errorf("enforced: %v, GODEBUG=%s", fips140.Enforced(), os.Getenv("GODEBUG"))
	}
}

// sha2 has every key of the realm of types that are approved.
func sha2() caddytest.Options {
	types := []kdctest.Option{kdctest.ETypes(enctype.AES256_CTS_HMAC_SHA384_192, enctype.AES128_CTS_HMAC_SHA256_128)}
	return caddytest.Options{Proxy: types, Web: types}
}

func TestApproved_Request(t *testing.T) {
	s := newSite(t, sha2())
	s.Realm.Principal("krbtgt/" + realmName).Set(sha2().Web...)
	s.Realm.Principal("krbtgt/" + realmName).ChangeKey(false)
	s.load(s.usual())
	s.Get("/").WantUser(t, principal)
	if p := s.Get("/peer.json").Peer(t); fips140.Enforced() && p.SessionEType != "aes256-cts-hmac-sha384-192" {
		t.Errorf("%+v", p)
	}
	if told := s.Log.Count("FIPS 140 is enforced: no AES-SHA1"); (told == 1) != fips140.Enforced() {
		t.Errorf("told %d times that the default is narrowed", told)
	}
}

func TestApproved_FAST(t *testing.T) {
	with := sha2()
	with.Proxy = append(with.Proxy, kdctest.With(kdctest.ArmoredOnly))
	s := newSite(t, with)
	s.Realm.Principal("krbtgt/" + realmName).Set(sha2().Web...)
	s.Realm.Principal("krbtgt/" + realmName).ChangeKey(false)
	machine := s.Realm.AddUser("machine$", "a secret of the machine", sha2().Proxy...)
	s.load(s.usual("fast_armor keytab " + s.Write("machine.keytab", s.KeysOf(machine))))
	s.Get("/").WantUser(t, principal)
}

func TestApproved_OthersRejected(t *testing.T) {
	s := newSite(t, sha2())
	for line, names := range map[string][]string{
		"encryption_types aes256-cts-hmac-sha1-96":                            {"aes256-cts-hmac-sha1-96", "aes256-cts-hmac-sha384-192"},
		"encryption_types camellia256-cts-cmac":                               {"camellia256-cts-cmac"},
		"encryption_types rc4-hmac\n\t\tallow_weak_crypto":                    {"rc4-hmac"},
		"encryption_types aes128-cts-hmac-sha256-128 aes128-cts-hmac-sha1-96": {"aes128-cts-hmac-sha1-96"},
	} {
		err := caddytest.TryLoad(s.T, s.caddyfile(s.usual(line)))
		if !fips140.Enforced() {
			if err != nil && strings.Contains(err.Error(), "FIPS") {
				t.Errorf("%s: %v", line, err)
			}
			continue
		}
		for _, name := range append(names, "FIPS 140", "fips140=only", "encryption_types") {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v does not say %q", line, err, name)
			}
		}
	}
	for line, name := range map[string]string{
		"channel_binding required":         "MD5",
		"impersonate {http.auth.user.id}":  "PA-FOR-USER",
		"channel_binding cert " + s.Keytab: "MD5",
	} {
		err := caddytest.TryLoad(s.T, fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system %s
}
http://%s {
	reverse_proxy %s {
		transport negotiate {
			kdc %s
			user %s
			keytab %s
			spn %s
			%s
		}
	}
}
`, s.Dir, s.Addr, s.Upstream.Addr(), s.KDC.Addr(), principal, s.Keytab, service, line))
		if fips140.Enforced() && (err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "FIPS 140")) {
			t.Errorf("%s: %v", line, err)
		}
		if !fips140.Enforced() && err != nil && strings.Contains(err.Error(), "FIPS") {
			t.Errorf("%s: %v", line, err)
		}
	}
}
