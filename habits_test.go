package caddynegotiate

import (
	"net"
	"testing"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// net/http calls a connection reused that was opened for one request, which took
// another in the end: only one that a token went over may stand for it.
func TestRequestGoesWithoutATokenOnlyWhereOneWentBefore(t *testing.T) {
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
	var h habits
	used, unused := dial(), dial()
	h.carry(used)
	if !h.skipToken(spn, used) {
		t.Error("a token went over the connection, and each request is to bring another")
	}
	if h.skipToken(spn, unused) {
		t.Error("no token went over the connection, and it is to stand for one")
	}
	for range patience {
		h.wantedToken(zap.NewNop(), spn)
	}
	if h.skipToken(spn, used) {
		t.Error("the upstream wanted a token each time, and gets none")
	}
	for range maxCarried {
		h.carried[net.JoinHostPort("x", string(rune(len(h.carried))))] = struct{}{}
	}
	h.carry(unused)
	if n := len(h.carried); n > maxCarried {
		t.Errorf("%d connections are remembered", n)
	}
}
