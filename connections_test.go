package caddynegotiate

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// openConnections counts the open connections of a server.
type openConnections struct {
	mu   sync.Mutex
	open map[net.Conn]bool
}

func countingServer(t *testing.T) (*httptest.Server, *openConnections) {
	t.Helper()
	c := &openConnections{open: make(map[net.Conn]bool)}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }))
	s.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch state {
		case http.StateNew:
			c.open[conn] = true
		case http.StateClosed:
			delete(c.open, conn)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s, c
}

func (c *openConnections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// settle waits until at most so many are open.
func (c *openConnections) settle(t *testing.T, most int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); c.count() > most; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are open after a minute, want %d at most", c.count(), most)
		}
	}
}

func newPools(t *testing.T) *connectionPools {
	t.Helper()
	p := &connectionPools{base: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: 2 * time.Minute}}
	t.Cleanup(p.close)
	return p
}

func (p *connectionPools) get(t *testing.T, client, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.of(client).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestConnectionPools_NotShared(t *testing.T) {
	s, _ := countingServer(t)
	p := newPools(t)
	owner := make(map[string]string)
	for range 20 {
		for _, client := range []string{"alice@A", "alice@B", "Alice@A", "bob@A"} {
			conn := p.get(t, client, s.URL)
			if before := owner[conn]; before != "" && before != client {
				t.Fatalf("%s was sent over the connection of %s", client, before)
			}
			owner[conn] = client
		}
	}
	// On a busy machine net/http may close one: it had not yet seen that the request was written.
	if len(owner) > 8 {
		t.Errorf("%d connections for 4 users: they are not kept", len(owner))
	}
}

func TestConnectionPools_Bounded(t *testing.T) {
	s, open := countingServer(t)
	p := newPools(t)
	first := p.get(t, "first", s.URL)
	for i := range maxConnectionPools + 100 {
		p.get(t, fmt.Sprint("user", i), s.URL)
		if i%100 == 0 && p.get(t, "first", s.URL) != first {
			t.Fatal("an active user has lost the connection")
		}
	}
	if len(p.pools) != maxConnectionPools {
		t.Errorf("%d users have connections, want %d", len(p.pools), maxConnectionPools)
	}
	open.settle(t, maxConnectionPools)
	p.close()
	open.settle(t, 0)
	if p.get(t, "first", s.URL) == first { // a request that is late
		t.Error("a closed connection is in use")
	}
}

func TestConnectionPools_Limits(t *testing.T) {
	p := newPools(t)
	for _, row := range []struct {
		base         *http.Transport
		perHost, all int
		idle         time.Duration
		disabled     bool
		most         int
	}{
		{base: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: 2 * time.Minute}, perHost: 4, all: 8, idle: 15 * time.Second},
		{base: &http.Transport{MaxIdleConnsPerHost: 2, MaxIdleConns: 3, IdleConnTimeout: time.Second}, perHost: 2, all: 3, idle: time.Second},
		{base: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: -1}, perHost: 4, all: 8, idle: 15 * time.Second}, // net/http keeps them forever
		{base: &http.Transport{MaxIdleConnsPerHost: -1, DisableKeepAlives: true, MaxConnsPerHost: 7}, perHost: -1, all: 8, idle: 15 * time.Second, disabled: true, most: 7},
	} {
		p.base, p.pools = row.base.Clone(), nil
		got := p.of("alice")
		if got.MaxIdleConnsPerHost != row.perHost || got.MaxIdleConns != row.all || got.IdleConnTimeout != row.idle ||
			got.DisableKeepAlives != row.disabled || got.MaxConnsPerHost != row.most {
			t.Errorf("%d per host, %d in all, for %v", got.MaxIdleConnsPerHost, got.MaxIdleConns, got.IdleConnTimeout)
		}
	}
}

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
