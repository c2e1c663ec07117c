package integration

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// server is an upstream beside the site's own: a service with its acceptor.
type server struct {
	service  *kdctest.Principal
	acceptor *kdctest.Acceptor
	*kdctest.Upstream
}

// serve starts another upstream, for a service that may be there already.
func (s *site) serve(service string, with kdctest.AcceptorConfig, how kdctest.UpstreamConfig) *server {
	s.T.Helper()
	p := &server{service: s.Realm.Principal(service)}
	if p.service == nil {
		p.service = s.Realm.AddService(service)
	}
	with.Keytab = s.KeysOf(p.service)
	p.acceptor, p.Upstream = caddytest.StartUpstream(s.T, with, how)
	return p
}

// newRelay passes HTTP/1.1 requests without a body on to an upstream, connection
// by connection. Where drop says so of a connection's n-th request, that is passed
// on like all others, and the connection closed in place of an answer. It gives its
// address.
func newRelay(t *testing.T, to string, drop func(n int) bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(func() { l.Close() })
	upstream := &http.Transport{DisableCompression: true}
	t.Cleanup(upstream.CloseIdleConnections)
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { relay(conn, upstream, to, drop) })
		}
	})
	return l.Addr().String()
}

func relay(conn net.Conn, upstream *http.Transport, to string, drop func(n int) bool) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for n := 1; ; n++ {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		r.URL.Scheme, r.URL.Host, r.RequestURI = "http", to, ""
		res, err := upstream.RoundTrip(r)
		if err != nil {
			return
		}
		if !drop(n) {
			err = res.Write(conn)
		}
		res.Body.Close()
		if err != nil || drop(n) {
			return
		}
	}
}
