package delegation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const root = "../.."

// The page's blocks and the examples adapt; that they load is shown below and in tests/docs.
func TestShownCaddyfilesAdapt(t *testing.T) {
	page, err := os.ReadFile(root + "/docs/delegation.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]string)
	for _, found := range regexp.MustCompile("(?ms)^```caddyfile\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		shown["docs/delegation.md: "+found[1][:20]] = found[1]
	}
	files, err := filepath.Glob(root + "/examples/delegation/*.caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		shown[file] = string(text)
	}
	if len(shown) < 4 {
		t.Fatalf("%d Caddyfiles only", len(shown))
	}
	for where, text := range shown {
		if _, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"}); err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v %v", where, err, warnings)
		}
	}
}

// example is a file of examples/delegation with this domain's addresses in it.
func (c *corp) example(name string, more ...string) string {
	c.t.Helper()
	text, err := os.ReadFile(root + "/examples/delegation/" + name)
	if err != nil {
		c.t.Fatal(err)
	}
	hash := strings.Fields(basicAuth(c.t, "alice"))[3]
	replace := append([]string{
		"dc1.corp.example dc2.corp.example", c.kdc.Addr(),
		"https://iis.corp.example", c.upstream.Addr(),
		"/etc/caddy/svc-proxy.keytab", c.keytab,
		"transport negotiate {", "transport negotiate {\nspn " + webSPN,
		"$2a$14$iwVZwgJTQkZ3Cx0hGBIYbu4UhRIjcmLNdgTxRWU6UEGzqCE1yVXgW", hash,
		"\t\t\ttls_trust_pool file /etc/caddy/corp-ca.pem\n", "",
	}, more...)
	out := strings.NewReplacer(replace...).Replace(string(text))
	global := "admin off\npersist_config off\nauto_https off\nstorage file_system " + c.t.TempDir() + "\nlog {\nlevel PANIC\n}\n"
	if strings.Contains(out, "\n{\n") {
		return strings.Replace(out, "\n{\n", "\n{\n"+global, 1)
	}
	return "{\n" + global + "}\n" + out
}

func TestExampleOfBasicAuth(t *testing.T) {
	c := newCorp(t, setup{})
	if err := tryLoad(t, c.example("basic_auth.caddyfile", "app.example.com {", "http://"+c.address+" {\nbind 127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob", "alice"} {
		c.get("/", signedIn(name)).wantUser(t, name+"@"+corpRealm)
	}
}

func TestExampleOfForwardAuth(t *testing.T) {
	c := newCorp(t, setup{})
	for _, name := range []string{"administrator", "svc-backup", "DC1$"} {
		c.realm.AddUser(name, "x")
	}
	if err := tryLoad(t, c.example("forward_auth.caddyfile", "app.example.com {", "http://"+c.address+" {\nbind 127.0.0.1",
		"gateway.example.com:9091", gateway(t))); err != nil {
		t.Fatal(err)
	}
	c.get("/", cookie("alice")).wantUser(t, "alice@"+corpRealm)
	c.get("/", cookie("CORP:bob")).wantUser(t, "bob@"+corpRealm)
	for _, name := range []string{"Administrator", "CORP:administrator", "administrator@corp.example", "svc-backup", "dc1$"} {
		if a := c.get("/", cookie(name)); a.status != http.StatusForbidden || strings.TrimSpace(a.body) != "user_denied" {
			t.Errorf("%s: %v", name, a)
		}
	}
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Corp CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) sign(what *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	what.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	what.NotBefore, what.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	issuer, by := a.cert, a.key
	if issuer == nil {
		issuer, by = what, key
	}
	der, err := x509.CreateCertificate(rand.Reader, what, issuer, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// person is a certificate for somebody, to show.
func (a *authority) person(email string) tls.Certificate {
	cert, key := a.sign(&x509.Certificate{EmailAddresses: []string{email}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// files writes a certificate and its key.
func files(t *testing.T, cert *x509.Certificate, key *ecdsa.PrivateKey) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert.Raw}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestExampleOfClientCertificates(t *testing.T) {
	c := newCorp(t, setup{})
	for _, name := range []string{"alice", "bob"} {
		c.realm.Principal(name).Set(kdctest.Alias(name + "@corp.example"))
	}
	ca := newAuthority(t)
	caFile, _ := files(t, ca.cert, ca.key)
	server, key := ca.sign(&x509.Certificate{DNSNames: []string{"app.example.com"}})
	certFile, keyFile := files(t, server, key)
	_, port, _ := net.SplitHostPort(c.address)
	// Longer patterns first: the replacer takes the first that fits.
	if err := tryLoad(t, c.example("client_certificates.caddyfile",
		"app.example.com {\n\ttls {", "https://app.example.com:"+port+" {\nbind 127.0.0.1\ntls "+certFile+" "+keyFile+" {",
		"/etc/caddy/corp-ca.pem", caFile)); err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(ca.cert)
	get := func(shown ...tls.Certificate) (answer, error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, ServerName: "app.example.com", Certificates: shown}}
		defer transport.CloseIdleConnections()
		f := &front{t: t, address: c.address, client: &http.Client{Transport: transport}}
		r := f.request("/")
		r.URL.Scheme, r.Host = "https", "app.example.com:"+port
		return f.ask(r)
	}
	for _, name := range []string{"alice", "bob", "alice"} {
		a, err := get(ca.person(name + "@corp.example"))
		if err != nil {
			t.Fatal(err)
		}
		a.wantUser(t, name+"@"+corpRealm)
	}
	if a, err := get(ca.person("administrator@corp.example")); err != nil || a.status != http.StatusForbidden {
		t.Errorf("who is denied: %v, %v", a, err)
	}
	if a, err := get(ca.person("alice@mail.example")); err != nil || a.status != http.StatusForbidden {
		t.Errorf("who is not allowed: %v, %v", a, err)
	}
	if a, err := get(newAuthority(t).person("alice@corp.example")); err == nil {
		t.Errorf("a certificate of another authority: %v", a)
	}
	if a, err := get(); err == nil {
		t.Errorf("no certificate: %v", a)
	}
}
