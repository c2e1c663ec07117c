package integration

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// serveVersion starts an upstream that speaks a version of TLS.
func (s *site) serveVersion(cert *tls.Certificate, version uint16, with kdctest.AcceptorConfig) *server {
	s.T.Helper()
	return s.serve(service, with, kdctest.UpstreamConfig{Certificate: cert, TLSVersion: version})
}

// forVersions runs a test with each version of TLS.
func forVersions(t *testing.T, test func(t *testing.T, version uint16)) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(strings.ReplaceAll(tls.VersionName(version), " ", ""), func(t *testing.T) { test(t, version) })
	}
}

func (p *server) wantHandshakes(t *testing.T, full, resumed int64) {
	t.Helper()
	if f, r := p.FullHandshakes.Load(), p.Resumptions.Load(); f != full || r != resumed {
		t.Errorf("%d full handshakes and %d resumptions, want %d and %d", f, r, full, resumed)
	}
}

// A resumed connection has the channel bindings of the session's certificate.
func TestResumption_Bindings(t *testing.T) {
	forVersions(t, func(t *testing.T, version uint16) {
		s := newSite(t, caddytest.Options{})
		cert := ecdsaCertificate(t, x509.ECDSAWithSHA256)
		p := s.serveVersion(cert, version, kdctest.AcceptorConfig{Bindings: kdctest.BindingsRequire})
		s.runTLS(p.Addr(), []*tls.Certificate{cert}, "keepalive off", "channel_binding required")
		for range 5 {
			if who := s.Get("/json").Peer(t); !who.Bound {
				t.Error("a token without bindings")
			}
		}
		p.wantClean(t)
		p.wantHandshakes(t, 1, 4)
	})
}

// The session has the old certificate, the upstream a new one: it refuses the token. The
// ticket is not suspect, and the repeat has the new certificate. Other connections of old
// sessions are not used again.
func TestResumption_RenewedCertificate(t *testing.T) {
	forVersions(t, func(t *testing.T, version uint16) {
		for name, bare := range map[string]bool{"bare refusal": true, "generic error": false} {
			t.Run(name, func(t *testing.T) {
				s := newSite(t, caddytest.Options{})
				before, after := ecdsaCertificate(t, x509.ECDSAWithSHA256), ecdsaCertificate(t, x509.ECDSAWithSHA384)
				p := s.serveVersion(before, version, kdctest.AcceptorConfig{Bindings: kdctest.BindingsRequire, BareRefusals: bare})
				s.runTLS(p.Addr(), []*tls.Certificate{before, after}, "keepalive off")
				for range 2 {
					s.Get("/").WantUser(t, principal)
				}
				p.SetCertificate(after)
				for range 3 {
					s.Get("/").WantUser(t, principal)
				}
				p.wantHandshakes(t, 2, 4)
				if n := p.acceptor.Counts().Refused["bindings"]; n != 1 {
					t.Errorf("%d tokens were refused, want 1", n)
				}
				s.WantCounts(1, 1)
			})
		}
	})
}

// A refusal for another reason concerns the ticket, also on a resumed connection; and any
// client may provoke refusals: sessions are not dropped for each.
func TestResumption_OtherRefusals(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	cert := ecdsaCertificate(t, x509.ECDSAWithSHA256)
	p := s.serveVersion(cert, tls.VersionTLS13, kdctest.AcceptorConfig{Bindings: kdctest.BindingsRequire})
	s.runTLS(p.Addr(), []*tls.Certificate{cert}, "keepalive off")
	for range 2 {
		s.Get("/").WantUser(t, principal)
	}
	p.service.ChangeKey(false)
	keys := s.KeysOf(p.service)
	if err := p.acceptor.Update(func(c *kdctest.AcceptorConfig) { c.Keytab = keys }); err != nil {
		t.Fatal(err)
	}
	s.Get("/").WantUser(t, principal)
	s.WantCounts(1, 2)
	p.wantHandshakes(t, 1, 3)

	if err := p.acceptor.Update(func(c *kdctest.AcceptorConfig) { c.Refuse, c.BareRefusals = kdctest.RefuseGood, true }); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if a := s.Get("/"); a.Status != http.StatusUnauthorized {
			t.Errorf("refused: %v", a)
		}
	}
	if n := p.FullHandshakes.Load(); n != 2 {
		t.Errorf("%d full handshakes, want the first one and one after a refusal", n)
	}
}

// Trust is judged by the configuration in force, not by the one of the first handshake.
func TestResumption_NoLongerTrusted(t *testing.T) {
	forVersions(t, func(t *testing.T, version uint16) {
		s := newSite(t, caddytest.Options{})
		cert, other := ecdsaCertificate(t, x509.ECDSAWithSHA256), ecdsaCertificate(t, x509.ECDSAWithSHA256)
		p := s.serveVersion(cert, version, kdctest.AcceptorConfig{})
		s.runTLS(p.Addr(), []*tls.Certificate{cert}, "keepalive off")
		for range 2 {
			s.Get("/").WantUser(t, principal)
		}
		requests := p.Requests.Load()
		s.runTLS(p.Addr(), []*tls.Certificate{other}, "keepalive off")
		if a := s.Get("/"); a.Status != http.StatusBadGateway || p.Requests.Load() != requests {
			t.Errorf("got %v; %d requests arrived", a, p.Requests.Load()-requests)
		}
		s.runTLS(p.Addr(), []*tls.Certificate{cert}, "keepalive off")
		s.Get("/").WantUser(t, principal)
	})
}
