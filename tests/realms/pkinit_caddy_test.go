package realms

import (
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/certfile"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
	"github.com/caddy-negotiate/caddy-negotiate/tests/pkitest"
)

// The service takes those who have logged in by certificate only, or with armor only.
func TestCaddy_Certificate(t *testing.T) {
	ca := pkitest.NewCA(t, "PKINIT test CA")
	m := pkinitRealm(t, ca, ca.Issue(t, pkitest.ForKDC("PKINIT.TEST")), "encrypted_challenge_indicator = fast", "pkinit_eku_checking = none")
	m.Add(t, lab.Principal{Name: "carol", Flags: []string{"+requires_preauth"}})
	m.Kadmin(t, "setstr HTTP/app.pkinit.test require_auth \"pkinit fast\"", "setstr carol pkinit_cert_match <ISSUER>.*Intermediate")
	keytab := m.Keytab(t, "HTTP/app.pkinit.test")
	common := []string{"krb5_conf " + m.Krb5Conf(), "spn HTTP/app.pkinit.test", "kdc_options {\npkinit_ca " + ca.File(t) + "\n}"}
	site := func(t *testing.T, lines ...string) *caddytest.Caddy {
		t.Helper()
		return newSite(t, keytab, append(lines, common...)...)
	}
	alice := ca.Issue(t, pkitest.ForClient("alice", "PKINIT.TEST"))
	t.Run("PEM", func(t *testing.T) {
		cert, key := alice.Files(t)
		s := site(t, "certificate "+cert+" "+key)
		s.Get("/").WantUser(t, "alice@PKINIT.TEST")
	})
	t.Run("PFX", func(t *testing.T) {
		for _, password := range []string{"", "pfx-secret"} { // as OpenSSL and as Windows encrypt
			pfx := write(t, "alice.pfx", alice.PFX(t, password))
			line := "certificate " + pfx
			if password != "" {
				line += " " + write(t, "password", []byte(password+"\n"))
			}
			s := site(t, line)
			s.Get("/").WantUser(t, "alice@PKINIT.TEST")
		}
	})
	t.Run("another account's", func(t *testing.T) {
		cert, key := alice.Files(t)
		s := site(t, "user bob@PKINIT.TEST", "certificate "+cert+" "+key)
		s.Get("/").WantError(t, 502, "credentials_refused", "75")
		if !strings.Contains(s.Log.String(), "pkinit_cert_match") {
			t.Errorf("no remedy in the log:\n%s", s.Log)
		}
	})
	t.Run("unknown KDC", func(t *testing.T) {
		cert, key := alice.Files(t)
		s := newSite(t, keytab, "certificate "+cert+" "+key, "krb5_conf "+m.Krb5Conf(), "spn HTTP/app.pkinit.test",
			"kdc_options {\npkinit_ca "+pkitest.NewCA(t, "another CA").File(t)+"\n}")
		s.Get("/").WantError(t, http.StatusBadGateway, "credentials_refused")
		if !strings.Contains(s.Log.String(), "set kdc_options pkinit_ca") {
			t.Errorf("no remedy in the log:\n%s", s.Log)
		}
	})
	t.Run("anonymous armor", func(t *testing.T) {
		s := site(t, "user bob@PKINIT.TEST", "password bob-secret", "fast_armor anonymous")
		s.Get("/").WantUser(t, "bob@PKINIT.TEST")
	})
	t.Run("managed", func(t *testing.T) { managedSite(t, ca, m, keytab, common) })
}

// managedSite logs in with a certificate of Caddy's own CA, which is below the one that the KDC
// trusts.
func managedSite(t *testing.T, ca *pkitest.CA, m *lab.MIT, keytab string, common []string) {
	t.Helper()
	root, key := ca.Files(t)
	_, upstream := caddytest.StartUpstream(t, kdctest.AcceptorConfig{Keytab: []byte(caddytest.ReadFile(t, keytab))}, kdctest.UpstreamConfig{})
	c := caddytest.New(t)
	global := c.Global("DEBUG", "local_certs", "skip_install_trust", "pki {\nca local {\nroot {\ncert "+root+"\nkey "+key+"\n}\n}\n}")
	lines := append([]string{"user carol@PKINIT.TEST", "certificate managed proxy.pkinit.test", "login_at_start off"}, common...)
	caddytest.Load(t, global+caddytest.Site(c.Addr, caddytest.Block("negotiate", lines...), "reverse_proxy "+upstream.Addr()))
	caddytest.WaitFor(t, "Caddy has obtained the certificate", func() bool {
		a := c.Get("/")
		if a.Status != http.StatusOK && !a.IsError(http.StatusBadGateway, "credentials_missing") {
			t.Fatalf("%v", a)
		}
		return a.IsUser("carol@PKINIT.TEST")
	})
}

// A certificate is renewed, its files one after the other, while others log in: none fails.
func TestCertificate_Renewed(t *testing.T) {
	ca := pkitest.NewCA(t, "PKINIT test CA")
	m := pkinitRealm(t, ca, ca.Issue(t, pkitest.ForKDC("PKINIT.TEST")))
	client, _ := newClient(t, trusting(ca), m)
	alice := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "alice"), Realm: "PKINIT.TEST"}
	first := ca.Issue(t, pkitest.ForClient("alice", "PKINIT.TEST"))
	dir := t.TempDir()
	cert, key := first.Write(t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	h := newIdentity(t, client, alice, negotiate.CertificateSecret(certfile.Files{Cert: cert, Key: key}))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				h.Flush()
				if _, err := h.Initiator(h.settings).Login(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	spec := pkitest.ForClient("alice", "PKINIT.TEST")
	var last *pkitest.Pair
	for i := range 6 {
		spec.ECDSA = i%2 == 0
		last = ca.Issue(t, spec)
		last.Write(t, cert, key)
		before := count[negotiate.LoggedIn](h)
		caddytest.WaitFor(t, "others have logged in", func() bool { return count[negotiate.LoggedIn](h) >= before+3 })
	}
	close(stop)
	wg.Wait()
	if got := h.Certificate(); !got.Equal(last.Chain[0]) {
		t.Errorf("the certificate in use is %s, not the last one", got.SerialNumber)
	}
	// One that the KDC does not take leaves the one before in use.
	pkitest.NewCA(t, "another CA").Issue(t, spec).Write(t, cert, key)
	h.relogin(t)
	if count[negotiate.SecretStale](h) != 1 {
		t.Error("no event reports that the new certificate is refused")
	}
}
