package signin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func newCertificate(t *testing.T, names ...string) (certmagic.Certificate, gss.ChannelBindings) {
	t.Helper()
	key := must.OK(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, DNSNames: names}
	der := must.OK(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)
	leaf := must.OK(x509.ParseCertificate(der))(t)
	c := certmagic.Certificate{Names: names}
	c.Leaf, c.Certificate.Certificate = leaf, [][]byte{der}
	return c, must.OK(httpauth.CertificateBinding(leaf))(t).Hashed
}

// over is a request over TLS for a name in the handshake.
func over(name string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.TLS = &tls.ConnectionState{ServerName: name}
	server := &caddyhttp.Server{TLSConnPolicies: caddytls.ConnectionPolicies{{DefaultSNI: "Default.example", FallbackSNI: "fallback.example"}}}
	ctx := context.WithValue(r.Context(), caddyhttp.ServerCtxKey, server)
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 443})
	return r.WithContext(ctx)
}

func TestCertificates(t *testing.T) {
	now := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	held := make(map[string]certmagic.Certificate)
	c := newCertificates(func() time.Time { return now }, func(name string) (found []certmagic.Certificate) {
		if cert, ok := held[name]; ok {
			found = append(found, cert)
		}
		return found
	})
	if c.Of(httptest.NewRequest(http.MethodGet, "/", nil)) != nil {
		t.Error("a connection without TLS has bindings")
	}
	hold := func(name string) gss.ChannelBindings {
		cert, bindings := newCertificate(t, name)
		held[name] = cert
		return bindings
	}
	app, fallback := hold("app.example"), hold("fallback.example")
	standard, address := hold("default.example"), hold("192.0.2.7")
	for _, row := range []struct {
		name     string
		bindings gss.ChannelBindings
		want     bool
	}{
		{"app.example", app, true},
		{"APP.example", app, true},
		{"app.example", standard, false},
		{"app.example", fallback, false},
		{"", standard, true},
		{"", address, true},
		{"", app, false},
		{"", fallback, false},
		{"unknown.example", fallback, true},
		{"unknown.example", app, false},
		{"app.example", gss.ChannelBindings{1}, false},
	} {
		if got := c.Of(over(row.name))(row.bindings); got != row.want {
			t.Errorf("%q, %x: %t", row.name, row.bindings, got)
		}
	}
	c.Of(over("app.example"))
	renewed := hold("app.example")
	for _, row := range []struct {
		after time.Duration
		old   bool
	}{{0, true}, {ReplacedLife - time.Second, true}, {time.Second, false}} {
		now = now.Add(row.after)
		verify := c.Of(over("app.example"))
		if !verify(renewed) || verify(app) != row.old {
			t.Errorf("at %s: renewed %t, old %t, want %t", now, verify(renewed), verify(app), row.old)
		}
		if c.Of(over("other.example"))(app) {
			t.Error("the old certificate counts for another name")
		}
	}
	now = now.Add(2 * ReplacedLife)
	hold("new.example")
	c.Of(over("new.example"))
	if len(c.shown) != 1 {
		t.Errorf("%d certificates are kept", len(c.shown))
	}
}

func TestMatchesWildcard(t *testing.T) {
	for pattern, names := range map[string]map[string]bool{
		"*.example":   {"a.example": true, "a.b.example": false, "example": false, ".example": true},
		"*.*.example": {"a.b.example": true, "a.example": false},
		"a.example":   {"a.example": false},
		"*":           {"example": false},
	} {
		for name, want := range names {
			if got := matchesWildcard(pattern, name); got != want {
				t.Errorf("%s, %s: %t", pattern, name, got)
			}
		}
	}
}
