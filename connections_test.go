package caddynegotiate

import (
	"net"
	"net/http/httptrace"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// net/http also reuses connections that were opened for one request, which then got
// another: only one that carried a token is authenticated.
func TestConnAuthState(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	spn, err := negotiate.ParseSPN("HTTP/web.corp.example")
	if err != nil {
		t.Fatal(err)
	}
	var s connAuthState
	used, unused := dial(), dial()
	s.tokenSent(used)
	if !s.skipToken(spn, used) {
		t.Error("the connection carried a token, but each request gets another")
	}
	if s.skipToken(spn, unused) {
		t.Error("the connection carried no token, but requests get none")
	}
	for range maxRefusals {
		s.refused(zap.NewNop(), spn)
	}
	if s.skipToken(spn, used) {
		t.Error("the upstream refused each request without a token, but they get none")
	}
	for range maxAuthenticated {
		s.authenticated[net.JoinHostPort("x", string(rune(len(s.authenticated))))] = struct{}{}
	}
	s.tokenSent(unused)
	if n := len(s.authenticated); n > maxAuthenticated {
		t.Errorf("%d connections are kept", n)
	}
}

// stub is a connection with an address.
type stub struct {
	net.Conn
	to net.Addr
}

func (s stub) RemoteAddr() net.Addr { return s.to }

func TestTransport_WarnsOfPlainHTTP(t *testing.T) {
	for to, want := range map[string]int{"192.0.2.1": 1, "2001:db8::1": 1, "127.0.0.1": 0, "::1": 0} {
		core, logs := observer.New(zap.WarnLevel)
		x := newTransport()
		x.logger = zap.New(core)
		info := httptrace.GotConnInfo{Conn: stub{to: &net.TCPAddr{IP: net.ParseIP(to), Port: 80}}}
		x.warnIfPlain(info)
		if logs.Len() != 0 {
			t.Error("warned of requests without a user")
		}
		x.impersonator = new(config.Impersonator)
		x.warnIfPlain(info)
		x.warnIfPlain(info)
		if logs.Len() != want {
			t.Errorf("%s: %d warnings, want %d", to, logs.Len(), want)
		}
	}
}
