package kdctest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// site is a realm with a KDC and a protected web server.
type site struct {
	realm    *kdctest.Realm
	kdc      *kdctest.KDC
	web      *kdctest.Principal
	acceptor *kdctest.Acceptor
	upstream *kdctest.Upstream
}

func newSite(t *testing.T, acfg kdctest.AcceptorConfig, ucfg kdctest.UpstreamConfig) *site {
	t.Helper()
	s := &site{realm: kdctest.NewRealm("CORP.EXAMPLE")}
	s.realm.AddUser("alice", "secret")
	s.web = s.realm.AddService("HTTP/web.corp.example")
	s.kdc = start(t, s.realm)
	keys, err := s.realm.Keytab(s.web)
	if err != nil {
		t.Fatal(err)
	}
	acfg.Keytab = keys
	if s.acceptor, err = kdctest.NewAcceptor(acfg); err != nil {
		t.Fatal(err)
	}
	ucfg.Acceptor = s.acceptor
	s.upstream = kdctest.NewUpstream(ucfg)
	if err := s.upstream.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.upstream.Stop)
	return s
}

// certificate returns a new self-signed certificate for web.corp.example.
func certificate(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "web.corp.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"web.corp.example"}, IsCA: true, BasicConstraintsValid: true,
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

// curl requests a path of the site as alice, by the name of the service.
func (s *site) curl(t *testing.T, path string, args ...string) string {
	t.Helper()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("LEFT OUT: curl (Debian: curl)")
	}
	if v, _ := exec.CommandContext(t.Context(), curl, "-V").Output(); !strings.Contains(string(v), "SPNEGO") {
		t.Skip("LEFT OUT: curl with SPNEGO (the one on PATH has none)")
	}
	m := newMIT(t, s.kdc)
	m.run("secret\n", "kinit", "-f", "alice")
	host, port, err := net.SplitHostPort(s.upstream.Addr())
	if err != nil {
		t.Fatal(err)
	}
	scheme, _, _ := strings.Cut(s.upstream.URL(), ":")
	args = append([]string{
		"-sS", "--noproxy", "*", "--negotiate", "-u", ":",
		"--resolve", "web.corp.example:" + port + ":" + host, "-w", "\n%{http_code}",
	}, args...)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, curl, append(args, scheme+"://web.corp.example:"+port+path)...)
	cmd.Env = m.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("curl: %v\n%s", err, out)
	}
	return string(out)
}

func TestCurl(t *testing.T) {
	for _, quirk := range []bool{false, true} {
		s := newSite(t, kdctest.AcceptorConfig{MicrosoftMech: quirk}, kdctest.UpstreamConfig{})
		if out := s.curl(t, "/"); out != "alice@CORP.EXAMPLE\n\n200" {
			t.Errorf("curl got %q", out)
		}
		if c := s.acceptor.Counts(); c.Accepted != 1 || len(c.Refused) != 0 {
			t.Errorf("counts %+v", c)
		}
	}
}

func TestCurlLargeTokens(t *testing.T) {
	for _, size := range []int{1300, 6000, 12000} {
		s := newSite(t, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{})
		s.realm.Principal("alice").Set(kdctest.AuthDataSize(size))
		body, _, _ := strings.Cut(s.curl(t, "/json"), "\n")
		var peer kdctest.Peer
		if err := json.Unmarshal([]byte(body), &peer); err != nil {
			t.Fatal(err)
		}
		if peer.User != "alice" || peer.TokenBytes < size || peer.TokenBytes > size+1500 {
			t.Errorf("filler of %d: %+v", size, peer)
		}
	}
}

func TestCurlDelegates(t *testing.T) {
	s := newSite(t, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{})
	s.web.Set(kdctest.With(kdctest.OKAsDelegate))
	out := s.curl(t, "/json", "--delegation", "policy")
	if !strings.Contains(out, `"delegated":"alice@CORP.EXAMPLE"`) {
		t.Errorf("curl got %s", out)
	}
	if c := s.kdc.Counts(); c.Forwarded != 1 {
		t.Errorf("counts %+v", c)
	}
}

func TestCurlWithoutBindings(t *testing.T) {
	// curl 7.88 sends none.
	cert := certificate(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[kdctest.BindingsMode]string{
		kdctest.BindingsOff: "200", kdctest.BindingsAllow: "200", kdctest.BindingsRequire: "401",
	} {
		s := newSite(t, kdctest.AcceptorConfig{Bindings: mode}, kdctest.UpstreamConfig{Certificate: cert})
		if out := s.curl(t, "/json", "--cacert", ca); !strings.HasSuffix(out, want) && !strings.Contains(out, `"bound":true`) {
			t.Errorf("mode %d: curl got %s", mode, out)
		}
	}
}
