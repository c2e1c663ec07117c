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

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// machine adds an account for armor and gives its keytab.
func (s *site) machine() string {
	s.t.Helper()
	return s.write("machine.keytab", s.keysOf(s.realm.AddUser("machine$", "a secret of the machine")))
}

func TestKDCThatDemandsFAST(t *testing.T) {
	s := newSite(t, setup{proxy: []kdctest.Option{kdctest.With(kdctest.ArmoredOnly)}})
	s.load(s.usual())
	s.get("/").wantError(t, 502, "credentials_refused", "12")
	if err := caddy.Stop(); err != nil { // and the pause after the refusal with it
		t.Fatal(err)
	}
	s.kdc.ResetCounts()
	s.load(s.usual("fast_armor keytab " + s.machine()))
	s.get("/").wantOK(t)
	c := s.kdc.Counts()
	if c.Armored != 3 || c.Clients["machine$@"+realmName].ASRep != 1 || c.Clients[principal].ASReqPreAuth != 1 {
		t.Errorf("counts %+v", c)
	}
}

// A KDC that does not take part in FAST gets no proof of the key.
func TestNoFallbackFromFASTToUnarmored(t *testing.T) {
	s := newSite(t, setup{})
	armor := s.machine()
	s.realm.DisableFAST()
	s.load(s.usual("fast_armor keytab " + armor))
	s.get("/").wantError(t, 502, "credentials_refused", "25")
	if c := s.kdc.Counts(); c.Clients[principal].ASReqPreAuth != 0 || c.Clients["machine$@"+realmName].ASRep == 0 {
		t.Errorf("counts %+v", c)
	}
	if !strings.Contains(s.log.String(), "FAST") {
		t.Error("the log does not tell of FAST")
	}
}

// Anybody can forge an error without armor: it opens no breaker.
func TestUnarmoredErrorsAreHintsOnly(t *testing.T) {
	s := newSite(t, setup{})
	armor := s.machine()
	forge := kdctest.Only(func(q *kdctest.Question) bool {
		req, err := messages.ParseKDCReq(q.Message)
		if err != nil {
			return false
		}
		_, armored := req.PAData.Find(messages.PA_FX_FAST)
		return armored && q.IsAS()
	}, kdctest.Fail(messages.KDC_ERR_PREAUTH_FAILED))
	s.kdc.Use(forge)
	s.load(s.usual("login_at_start off", "fast_armor keytab "+armor))
	s.get("/").wantError(t, 502, "credentials_refused", "24")
	s.kdc.ClearFaults()
	// The same identity with its breaker, but tickets of its own, so that the second for which any failure is remembered is over.
	s.load(s.usual("login_at_start off", "fast_armor keytab "+armor, "encryption_types aes256-cts-hmac-sha1-96"))
	s.get("/").wantOK(t)
}

func TestAccountThatOnlySPAKECanLogIn(t *testing.T) {
	s := newSite(t, setup{})
	s.realm.SetPreAuth(messages.PA_SPAKE)
	s.load(s.usual())
	s.get("/").wantOK(t)
	s.wantCounts(1, 1)
}

func TestSecondFactorIsRefusedWithAClearError(t *testing.T) {
	s := newSite(t, setup{})
	s.realm.SetPreAuth(messages.PA_SPAKE)
	s.realm.SetSPAKE(kdctest.SPAKE{SecondFactor: true})
	s.load(s.usual())
	s.get("/").wantError(t, 502, "credentials_refused", "")
	if !strings.Contains(s.log.String(), "demands a second factor") {
		t.Error("the log does not tell of the second factor")
	}
}

// A proxy of the KDC, with an authority and a client's certificate of our own, among others in one order of preference.
func TestKDCProxyAmongOthers(t *testing.T) {
	s := newSite(t, setup{})
	proxy := httptest.NewUnstartedServer(s.kdc.Proxy())
	proxy.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	cert := proxy.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	ca := s.write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	keyFile := s.write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	for name, c := range map[string]struct {
		kdcs          string
		https, direct bool
	}{
		"first":           {proxy.URL + "/KdcProxy " + s.kdc.Addr(), true, false},
		"behind the dead": {"tcp/" + freeAddress(t) + " " + proxy.URL + "/KdcProxy", true, false},
		"last":            {s.kdc.Addr() + " " + proxy.URL + "/KdcProxy", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			for hedged := true; hedged; {
				const asked = `"kdc hedging"` // on a busy machine the first KDC is thought slow: that shows nothing
				before := strings.Count(s.log.String(), asked)
				s.kdc.ResetCounts()
				s.load(lines("kdc "+c.kdcs, "user "+principal, "keytab "+s.keytab, "spn "+service, "trace",
					"encryption_types aes256-cts-hmac-sha1-96", // tickets of its own
					"kdc_options {", "tls_ca "+ca, "tls_client_cert "+ca+" "+keyFile, "}"))
				s.get("/").wantOK(t)
				n := s.kdc.Counts()
				hedged = strings.Count(s.log.String(), asked) > before
				if !hedged && ((n.HTTPS > 0) != c.https || (n.UDP+n.TCP > 0) != c.direct) {
					t.Errorf("https %d, udp %d, tcp %d", n.HTTPS, n.UDP, n.TCP)
				}
				if err := caddy.Stop(); err != nil { // and the tickets go
					t.Fatal(err)
				}
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

func TestUnderFIPS140(t *testing.T) {
	fips(t, "TestFIPS140IsEnforcedWhereItShouldBe|TestApprovedMainJob|TestApprovedWithFAST|TestUnapprovedIsRefusedByName")
}

// The tests below are for the process that TestUnderFIPS140 starts. In any other they hold what is true there as well.

// Without effect on the other process the tests there would pass for nothing.
func TestFIPS140IsEnforcedWhereItShouldBe(t *testing.T) {
	if wanted := strings.Contains(os.Getenv("GODEBUG"), "fips140=only"); fips140.Enforced() != wanted {
		t.Errorf("enforced: %v, GODEBUG=%s", fips140.Enforced(), os.Getenv("GODEBUG"))
	}
}

// sha2 has every key of the realm of types that are approved.
func sha2() setup {
	types := []kdctest.Option{kdctest.ETypes(enctype.AES256_CTS_HMAC_SHA384_192, enctype.AES128_CTS_HMAC_SHA256_128)}
	return setup{proxy: types, web: types}
}

func TestApprovedMainJob(t *testing.T) {
	s := newSite(t, sha2())
	s.realm.Principal("krbtgt/" + realmName).Set(sha2().web...)
	s.realm.Principal("krbtgt/" + realmName).ChangeKey(false)
	s.load(s.usual())
	s.get("/").wantOK(t)
	if p := s.get("/peer.json").peer(t); fips140.Enforced() && p.SessionEType != "aes256-cts-hmac-sha384-192" {
		t.Errorf("%+v", p)
	}
	if told := strings.Count(s.log.String(), "FIPS 140 is enforced: no AES-SHA1"); (told == 1) != fips140.Enforced() {
		t.Errorf("told %d times that the default is narrowed", told)
	}
}

func TestApprovedWithFAST(t *testing.T) {
	with := sha2()
	with.proxy = append(with.proxy, kdctest.With(kdctest.ArmoredOnly))
	s := newSite(t, with)
	s.realm.Principal("krbtgt/" + realmName).Set(sha2().web...)
	s.realm.Principal("krbtgt/" + realmName).ChangeKey(false)
	machine := s.realm.AddUser("machine$", "a secret of the machine", sha2().proxy...)
	s.load(s.usual("fast_armor keytab " + s.write("machine.keytab", s.keysOf(machine))))
	s.get("/").wantOK(t)
}

func TestUnapprovedIsRefusedByName(t *testing.T) {
	s := newSite(t, sha2())
	for stated, names := range map[string][]string{
		"encryption_types aes256-cts-hmac-sha1-96":                            {"aes256-cts-hmac-sha1-96", "aes256-cts-hmac-sha384-192"},
		"encryption_types camellia256-cts-cmac":                               {"camellia256-cts-cmac"},
		"encryption_types rc4-hmac\n\t\tallow_weak_crypto":                    {"rc4-hmac"},
		"encryption_types aes128-cts-hmac-sha256-128 aes128-cts-hmac-sha1-96": {"aes128-cts-hmac-sha1-96"},
	} {
		err := s.tryLoad(s.usual(stated))
		if !fips140.Enforced() {
			if err != nil && strings.Contains(err.Error(), "FIPS") {
				t.Errorf("%s: %v", stated, err)
			}
			continue
		}
		for _, name := range append(names, "FIPS 140", "fips140=only", "encryption_types") {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v does not say %q", stated, err, name)
			}
		}
	}
	for stated, name := range map[string]string{
		"channel_binding required":         "MD5",
		"impersonate {http.auth.user.id}":  "PA-FOR-USER",
		"channel_binding cert " + s.keytab: "MD5",
	} {
		err := s.loadFile(fmt.Sprintf(`{
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
`, s.folder, s.address, s.upstream.Addr(), s.kdc.Addr(), principal, s.keytab, service, stated))
		if fips140.Enforced() && (err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "FIPS 140")) {
			t.Errorf("%s: %v", stated, err)
		}
		if !fips140.Enforced() && err != nil && strings.Contains(err.Error(), "FIPS") {
			t.Errorf("%s: %v", stated, err)
		}
	}
}
