package connections

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync/atomic"
	"testing"
	"time"
)

// tlsUpstream counts its handshakes.
type tlsUpstream struct {
	*upstream
	full, resumed atomic.Int64
}

func newTLSUpstream(t *testing.T, version uint16) *tlsUpstream {
	t.Helper()
	u := new(tlsUpstream)
	u.upstream = newUpstream(t, func(s *httptest.Server) {
		s.TLS = &tls.Config{MaxVersion: version, VerifyConnection: func(state tls.ConnectionState) error {
			if state.DidResume {
				u.resumed.Add(1)
			} else {
				u.full.Add(1)
			}
			return nil
		}}
		s.StartTLS()
	})
	return u
}

// trusting is a transport that trusts the upstream, whose certificate is for example.com
// and 127.0.0.1.
func (u *tlsUpstream) trusting() *http.Transport {
	roots := x509.NewCertPool()
	roots.AddCert(u.Certificate())
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, TLSHandshakeTimeout: time.Minute}
}

func TestSessions_SharedByUsers(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		u := newTLSUpstream(t, version)
		p := newPool(t, u.trusting())
		for _, owner := range []string{"", "alice", "bob", "carol"} {
			p.mustGet(t, "https", Route{Upstream: u.address(), Owner: owner})
		}
		if full, resumed := u.full.Load(), u.resumed.Load(); full != 1 || resumed != 3 {
			t.Errorf("%s: %d full handshakes, %d resumed", tls.VersionName(version), full, resumed)
		}
	}
}

// Servers of one name have their own sessions: one cannot resume the other's.
func TestSessions_KeptApartByAddress(t *testing.T) {
	first, second := newTLSUpstream(t, tls.VersionTLS13), newTLSUpstream(t, tls.VersionTLS13)
	base := first.trusting()
	base.TLSClientConfig.ServerName = "example.com"
	p := newPool(t, base)
	for range 2 {
		for _, u := range []*tlsUpstream{first, second} {
			p.mustGet(t, "https", Route{Upstream: u.address()})
			p.transport.CloseIdleConnections()
		}
	}
	for _, u := range []*tlsUpstream{first, second} {
		if full, resumed := u.full.Load(), u.resumed.Load(); full != 1 || resumed != 1 {
			t.Errorf("%d full handshakes, %d resumed, want 1 and 1", full, resumed)
		}
	}
}

func TestSessions_ServerNameIsVerified(t *testing.T) {
	u := newTLSUpstream(t, tls.VersionTLS13)
	for name, good := range map[string]bool{"": true, "example.com": true, "other.example": false} {
		base := u.trusting()
		base.TLSClientConfig.ServerName = name
		p := newPool(t, base)
		for _, owner := range []string{"alice", "bob"} {
			if _, err := p.get(t.Context(), "https", Route{Upstream: u.address(), Owner: owner}); (err == nil) != good {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
}

// get1 asks the upstream and returns the connection that was used.
func (u *tlsUpstream) get1(t *testing.T, p *Pool, owner string) (conn *Conn) {
	t.Helper()
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { conn = Of(info.Conn) }}
	if _, err := p.get(httptrace.WithClientTrace(t.Context(), trace), "https", Route{Upstream: u.address(), Owner: owner}); err != nil {
		t.Fatal(err)
	}
	if conn == nil {
		t.Fatal("the connection is not the pool's")
	}
	return conn
}

// After a drop everyone has new connections, of which the first has a full handshake.
func TestSessions_Dropped(t *testing.T) {
	u := newTLSUpstream(t, tls.VersionTLS13)
	p := newPool(t, u.trusting())
	u.get1(t, p, "alice")
	bob, carol := u.get1(t, p, "bob"), u.get1(t, p, "carol")
	if !bob.DropSessions() || !carol.DropSessions() { // carol's came with the first
		t.Fatal("not dropped")
	}
	for _, owner := range []string{"alice", "bob", "carol", ""} {
		u.get1(t, p, owner)
	}
	if full, resumed := u.full.Load(), u.resumed.Load(); full != 2 || resumed != 5 {
		t.Errorf("%d full handshakes, %d resumed, want 2 and 5", full, resumed)
	}
	if dave := u.get1(t, p, "dave"); dave.DropSessions() {
		t.Error("dropped twice within the interval")
	} else if s := p.server(u.address()); true {
		s.dropped = s.dropped.Add(-dropInterval)
		if !dave.DropSessions() {
			t.Error("not dropped after the interval")
		}
	}
	var none *Conn
	if none.DropSessions() || none.Proven("x") {
		t.Error("no connection")
	}
	none.Unproven()
	none.Abort()
}
