package integration

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const tlsHost = "web.corp.example"

// certificate makes one for tlsHost, signed by itself.
func certificate(t *testing.T, key crypto.Signer, alg x509.SignatureAlgorithm) *tls.Certificate {
	t.Helper()
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: tlsHost}, SignatureAlgorithm: alg,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), DNSNames: []string{tlsHost},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func rsaCertificate(t *testing.T, alg x509.SignatureAlgorithm) *tls.Certificate {
	t.Helper()
	key, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	return certificate(t, key, alg)
}

func ecdsaCertificate(t *testing.T, alg x509.SignatureAlgorithm) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return certificate(t, key, alg)
}

func ed25519Certificate(t *testing.T) *tls.Certificate {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return certificate(t, key, x509.PureEd25519)
}

// pemFile writes certificates into a file.
func (s *site) pemFile(name string, certs ...*tls.Certificate) string {
	var b strings.Builder
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	}
	return s.Write(name, []byte(b.String()))
}

// runTLS loads a site that proxies by TLS to an upstream with one of the certificates.
func (s *site) runTLS(address string, certs []*tls.Certificate, transport ...string) {
	s.T.Helper()
	s.run("https://"+address, append([]string{
		"spn " + service, "tls_server_name " + tlsHost, "tls_trust_pool file " + s.pemFile("trusted.pem", certs...),
	}, transport...)...)
}

func (s *site) serveTLS(cert *tls.Certificate, mode kdctest.BindingsMode) *server {
	s.T.Helper()
	return s.serve(service, kdctest.AcceptorConfig{Bindings: mode}, kdctest.UpstreamConfig{Certificate: cert})
}

func TestBinding_Certificate(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *tls.Certificate{
		"RSA SHA-256":     func(t *testing.T) *tls.Certificate { return rsaCertificate(t, x509.SHA256WithRSA) },
		"RSA SHA-384":     func(t *testing.T) *tls.Certificate { return rsaCertificate(t, x509.SHA384WithRSA) },
		"RSA SHA-512":     func(t *testing.T) *tls.Certificate { return rsaCertificate(t, x509.SHA512WithRSA) },
		"RSA-PSS SHA-384": func(t *testing.T) *tls.Certificate { return rsaCertificate(t, x509.SHA384WithRSAPSS) },
		"RSA SHA-1":       func(t *testing.T) *tls.Certificate { return rsaCertificate(t, x509.SHA1WithRSA) },
		"ECDSA SHA-256":   func(t *testing.T) *tls.Certificate { return ecdsaCertificate(t, x509.ECDSAWithSHA256) },
		"ECDSA SHA-384":   func(t *testing.T) *tls.Certificate { return ecdsaCertificate(t, x509.ECDSAWithSHA384) },
		"ECDSA SHA-1":     func(t *testing.T) *tls.Certificate { return ecdsaCertificate(t, x509.ECDSAWithSHA1) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, caddytest.Options{})
			cert := make(t)
			p := s.serveTLS(cert, kdctest.BindingsRequire)
			for _, setting := range []string{"", "channel_binding auto", "channel_binding required"} {
				s.runTLS(p.Addr(), []*tls.Certificate{cert}, setting)
				for range 2 { // the second on the same connection
					if who := s.Get("/json").Peer(t); !who.Bound || !who.ClaimsCBT {
						t.Fatalf("%q: bound %t, claimed %t", setting, who.Bound, who.ClaimsCBT)
					}
				}
			}
			p.wantClean(t)
			s.runTLS(p.Addr(), []*tls.Certificate{cert}, "channel_binding off")
			if a := s.Get("/"); a.Status != http.StatusUnauthorized || a.Word() != "token_refused" {
				t.Fatalf("without bindings: %d %q", a.Status, a.Body)
			}
			if n := p.acceptor.Counts().Refused["bindings"]; n == 0 {
				t.Error("refused for another reason")
			}
		})
	}
}

// The element that claims channel bindings (AP-options) is there beside non-zero
// bindings only: an acceptor that models Allow refuses it beside none.
func TestBinding_Claim(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	cert := rsaCertificate(t, x509.SHA256WithRSA)
	p := s.serveTLS(cert, kdctest.BindingsAllow)
	for setting, bound := range map[string]bool{"auto": true, "required": true, "off": false} {
		s.runTLS(p.Addr(), []*tls.Certificate{cert}, "channel_binding "+setting)
		if who := s.Get("/json").Peer(t); who.Bound != bound || who.ClaimsCBT != bound {
			t.Errorf("%s: bound %t, claimed %t, want %t", setting, who.Bound, who.ClaimsCBT, bound)
		}
	}
	p.wantClean(t)

	wrong := s.pemFile("another.pem", rsaCertificate(t, x509.SHA256WithRSA))
	s.runTLS(p.Addr(), []*tls.Certificate{cert}, "channel_binding cert "+wrong)
	if a := s.Get("/"); a.Status != http.StatusUnauthorized {
		t.Errorf("bound to another certificate: %d", a.Status)
	}
}

func TestBinding_PinnedCertificate(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	inner, outer := ecdsaCertificate(t, x509.ECDSAWithSHA256), ecdsaCertificate(t, x509.ECDSAWithSHA384)
	p := s.serveTLS(inner, kdctest.BindingsRequire)
	terminator := newTerminator(t, outer, p.Addr())
	s.runTLS(terminator, []*tls.Certificate{outer})
	if a := s.Get("/"); a.Status != http.StatusUnauthorized {
		t.Fatalf("bound to the terminator: %d", a.Status)
	}
	p.acceptor.ResetCounts()
	s.runTLS(terminator, []*tls.Certificate{outer}, "channel_binding cert "+s.pemFile("inner.pem", inner))
	s.Get("/").WantUser(t, principal)
	p.wantClean(t)
}

// newTerminator takes TLS connections and passes them on over TLS of its own.
func newTerminator(t *testing.T, cert *tls.Certificate, to string) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := tls.Dial("tcp", to, &tls.Config{InsecureSkipVerify: true})
				if err != nil {
					return
				}
				go func(in, out net.Conn) {
					_, _ = io.Copy(out, in)
					out.Close()
				}(in, out)
				_, _ = io.Copy(in, out)
			}()
		}
	}()
	return l.Addr().String()
}

func TestBinding_UndefinedForCertificate(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	cert := ed25519Certificate(t)
	p := s.serveTLS(cert, kdctest.BindingsAllow)
	s.runTLS(p.Addr(), []*tls.Certificate{cert}, "channel_binding auto")
	for range 3 {
		s.Get("/").WantUser(t, principal)
	}
	const warning = "the upstream's certificate defines no channel bindings"
	if n := s.Log.Count(warning); n != 1 {
		t.Errorf("warned %d times, want once", n)
	}
	p.wantClean(t)
	requests := p.Requests.Load()

	s.runTLS(p.Addr(), []*tls.Certificate{cert}, "channel_binding required")
	s.Get("/").WantError(t, http.StatusBadGateway, "channel_binding_failed")
	s.run(s.Upstream.Addr(), "spn "+service, "channel_binding required")
	s.Get("/").WantError(t, http.StatusBadGateway, "channel_binding_failed")
	if p.Requests.Load() != requests || s.Upstream.Requests.Load() != 0 {
		t.Error("a request went out without its bindings")
	}
	s.run(s.Upstream.Addr(), "spn "+service) // auto, without TLS
	s.Get("/").WantUser(t, principal)
}

func TestBinding_RejectedAtLoad(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	ed := s.pemFile("ed25519.pem", ed25519Certificate(t))
	none := s.Write("none.pem", []byte("nothing"))
	for line, want := range map[string]string{
		"channel_binding":                 "takes auto, off, required, or cert FILE",
		"channel_binding on":              "takes auto, off, required, or cert FILE",
		"channel_binding cert":            "takes auto, off, required, or cert FILE",
		"channel_binding cert " + none:    "no certificate",
		"channel_binding cert " + ed:      "ed25519.pem",
		"channel_binding cert /not/there": "not/there",
	} {
		err := caddytest.TryLoad(s.T, s.config("", proxying(s.Upstream.Addr(), s.negotiating("spn "+service, line))))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Caddyfile:") {
			t.Errorf("%s: %v, want %s and the place", line, err, want)
		}
	}
}
