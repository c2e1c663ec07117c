package signin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// certificate makes a self-signed certificate of a key for names, and writes it into files that Caddy
// loads.
func (e *env) certificate(file string, useRSA bool, names ...string) *x509.Certificate {
	e.T.Helper()
	var private any
	var public any
	if useRSA {
		key := must.OK(rsa.GenerateKey(rand.Reader, 2048))(e.T)
		private, public = key, key.Public()
	} else {
		key := must.OK(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(e.T)
		private, public = key, key.Public()
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der := must.OK(x509.CreateCertificate(rand.Reader, template, template, public, private))(e.T)
	raw := must.OK(x509.MarshalPKCS8PrivateKey(private))(e.T)
	e.Write(file+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	e.Write(file+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	return must.OK(x509.ParseCertificate(der))(e.T)
}

// tlsSite is a site with a certificate of its own.
func (e *env) tlsSite(host, file string, lines ...string) string {
	path := filepath.Join(e.Dir, file)
	return caddytest.Block("https://"+host+":"+caddytest.Port(e.Addr), append([]string{"bind 127.0.0.1", "tls " + path + ".pem " + path + ".key"}, lines...)...) + "\n"
}

func (e *env) tlsConfig(sites ...string) string {
	text := e.Global("DEBUG", caddytest.Block("servers", "trusted_proxies static 127.0.0.1/32"), "default_sni one.corp.example")
	for _, s := range sites {
		text += s
	}
	return text
}

// connection is a client's TLS connections to a host, which show whatever name.
func (e *env) connection(serverName string) *http.Client {
	c := caddytest.Client(e.T)
	transport := c.Transport.(*http.Transport)
	transport.TLSClientConfig = &tls.Config{ServerName: serverName, InsecureSkipVerify: true}
	if serverName == "" {
		transport.TLSClientConfig.ServerName = "127.0.0.1" // no SNI for addresses
	}
	return c
}

// ask requests a page of a host over a client's connections.
func (e *env) ask(c *http.Client, host string, change ...func(*http.Request)) caddytest.Answer {
	e.T.Helper()
	r := caddytest.Request(e.T, http.MethodGet, "https://"+e.Addr+"/", append(change, from(newAddress()))...)
	r.Host = host
	return must.OK(caddytest.Ask(c, r))(e.T)
}

// bound gives a request a token that is bound to a certificate.
func (e *env) bound(cert *x509.Certificate) func(*http.Request) {
	e.T.Helper()
	return e.user("alice").With(caddytest.Authenticator{Bindings: must.OK(httpauth.CertificateBinding(cert))(e.T).Hashed})
}

func TestBindings_OwnCertificate(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	ec, other := e.certificate("ec", false, "one.corp.example"), e.certificate("other", false, "two.corp.example")
	rsaToo := e.certificate("rsa", true, "one.corp.example")
	path := filepath.Join(e.Dir, "rsa")
	sites := func(mode string) string {
		return e.tlsConfig(
			e.tlsSite("one.corp.example", "ec", "tls "+path+".pem "+path+".key", e.auth(spnLine, "channel_binding "+mode), who),
			e.tlsSite("two.corp.example", "other", e.auth(spnLine, "channel_binding "+mode), who))
	}
	for _, mode := range []string{"auto", "required", "off"} {
		caddytest.Load(t, sites(mode))
		one, two := e.connection("one.corp.example"), e.connection("two.corp.example")
		want := func(what string, a caddytest.Answer, good bool) {
			t.Helper()
			if good || mode == "off" {
				wantUser(t, a, "alice")
			} else if a.Status != http.StatusUnauthorized {
				t.Errorf("%s, %s: %v", mode, what, a)
			}
		}
		// RSA and ECDSA next to each other: which one is shown, the client decides.
		want("ECDSA", e.ask(one, "one.corp.example", e.bound(ec)), true)
		want("RSA", e.ask(one, "one.corp.example", e.bound(rsaToo)), true)
		want("another site's certificate", e.ask(one, "one.corp.example", e.bound(other)), false)
		want("none", e.ask(one, "one.corp.example", e.user("alice").SignIn), mode == "auto")
		want("two", e.ask(two, "two.corp.example", e.bound(other)), true)
		// A connection that was opened for one and carries a request for two, as HTTP/2 may: its
		// certificate is that of one.
		want("shared connection", e.ask(one, "two.corp.example", e.bound(ec)), true)
		want("shared connection, the other's certificate", e.ask(one, "two.corp.example", e.bound(other)), false)
		// Without SNI the default name counts.
		none := e.connection("")
		want("no SNI", e.ask(none, "one.corp.example", e.bound(ec)), true)
		want("no SNI, another certificate", e.ask(none, "one.corp.example", e.bound(other)), false)
	}
	e.wantLogged("client not signed in", `"result":"bad_binding"`, `"reason":"bindings_wrong"`, "channel_binding cert FILE")
	e.wantLogged("client not signed in", `"result":"bad_binding"`, `"reason":"bindings_missing"`, "set channel_binding auto", "if auto refuses it", "set off")
}

// A connection that began with the certificate before stays in use.
func TestBindings_Renewal(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	load := func() {
		caddytest.Load(t, e.tlsConfig(e.tlsSite("one.corp.example", "ec", e.auth(spnLine, "channel_binding required"), who)))
	}
	before := e.certificate("ec", false, "one.corp.example")
	load()
	open := e.connection("one.corp.example")
	wantChallenge(t, e.ask(open, "one.corp.example"))
	after := e.certificate("ec", false, "one.corp.example")
	load()
	wantUser(t, e.ask(e.connection("one.corp.example"), "one.corp.example", e.bound(after)), "alice")
	wantUser(t, e.ask(e.connection("one.corp.example"), "one.corp.example", e.bound(before)), "alice")
	never := e.certificate("never", false, "one.corp.example")
	wantChallenge(t, e.ask(open, "one.corp.example", e.bound(never)))
}

// A TLS terminator in front has a certificate that Caddy does not have.
func TestBindings_Terminator(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	front, other := e.certificate("front", true, "front.corp.example"), e.certificate("other", true, "other.corp.example")
	for _, mode := range []string{"cert " + filepath.Join(e.Dir, "front.pem"), "auto"} {
		e.load(e.auth(spnLine, "channel_binding "+mode), who)
		pinned := mode != "auto"
		if a := e.get(e.bound(front)); (a.Status == http.StatusOK) != pinned {
			t.Errorf("%s: %v", mode, a)
		}
		wantChallenge(t, e.get(e.bound(other)))
		wantUser(t, e.get(e.user("alice").SignIn), "alice") // the client sends none
	}
}
