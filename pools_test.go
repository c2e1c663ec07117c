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
)

// connections counts a server's open ones.
type connections struct {
	mu    sync.Mutex
	cond  *sync.Cond
	open  map[net.Conn]bool
	total int
}

func countingServer(t *testing.T) (*httptest.Server, *connections) {
	t.Helper()
	c := &connections{open: make(map[net.Conn]bool)}
	c.cond = sync.NewCond(&c.mu)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }))
	s.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch state {
		case http.StateNew:
			c.open[conn] = true
			c.total++
		case http.StateClosed:
			delete(c.open, conn)
		}
		c.cond.Broadcast()
	}
	s.Start()
	t.Cleanup(s.Close)
	return s, c
}

// settle waits until no more than so many are open.
func (c *connections) settle(most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.open) > most {
		c.cond.Wait()
	}
}

func newPools(t *testing.T) *pools {
	t.Helper()
	p := &pools{base: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: 2 * time.Minute}}
	t.Cleanup(p.close)
	return p
}

func (p *pools) get(t *testing.T, client, url string) string {
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

func TestPoolsKeepTheConnectionsOfUsersApart(t *testing.T) {
	s, _ := countingServer(t)
	p := newPools(t)
	owner := make(map[string]string)
	for range 20 {
		for _, client := range []string{"alice@A", "alice@B", "Alice@A", "bob@A"} {
			conn := p.get(t, client, s.URL)
			if before := owner[conn]; before != "" && before != client {
				t.Fatalf("%s came over the connection of %s", client, before)
			}
			owner[conn] = client
		}
	}
	// On a busy machine net/http may let one go: it had not yet seen that the request was written.
	if len(owner) > 8 {
		t.Errorf("%d connections for 4 users: they are not kept", len(owner))
	}
}

func TestPoolsAreBoundedAndTheLongestIdleGoFirst(t *testing.T) {
	s, open := countingServer(t)
	p := newPools(t)
	first := p.get(t, "first", s.URL)
	for i := range maxPools + 100 {
		p.get(t, fmt.Sprint("user", i), s.URL)
		if i%100 == 0 && p.get(t, "first", s.URL) != first {
			t.Fatal("who came again and again has lost his connection")
		}
	}
	if len(p.users) != maxPools {
		t.Errorf("%d users have connections, want %d", len(p.users), maxPools)
	}
	open.settle(maxPools) // or the test does not end
	p.close()
	open.settle(0)
	if p.get(t, "first", s.URL) == first { // a request that is late
		t.Error("a closed connection lives")
	}
}

func TestPoolsKeepFewConnectionsOfAUserAndNotForLong(t *testing.T) {
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
		{base: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: -1}, perHost: 4, all: 8, idle: 15 * time.Second}, // which net/http takes for ever
		{base: &http.Transport{MaxIdleConnsPerHost: -1, DisableKeepAlives: true, MaxConnsPerHost: 7}, perHost: -1, all: 8, idle: 15 * time.Second, disabled: true, most: 7},
	} {
		p.base, p.users = row.base.Clone(), nil
		got := p.of("alice")
		if got.MaxIdleConnsPerHost != row.perHost || got.MaxIdleConns != row.all || got.IdleConnTimeout != row.idle ||
			got.DisableKeepAlives != row.disabled || got.MaxConnsPerHost != row.most {
			t.Errorf("%d per host, %d in all, for %v", got.MaxIdleConnsPerHost, got.MaxIdleConns, got.IdleConnTimeout)
		}
	}
}

// stub is a connection to somewhere.
type stub struct {
	net.Conn
	to net.Addr
}

func (s stub) RemoteAddr() net.Addr { return s.to }

func TestActingForUsersByPlainHTTPWarnsOnce(t *testing.T) {
	for to, want := range map[string]int{"192.0.2.1": 1, "2001:db8::1": 1, "127.0.0.1": 0, "::1": 0} {
		core, logs := observer.New(zap.WarnLevel)
		x := newTransport()
		x.logger = zap.New(core)
		info := httptrace.GotConnInfo{Conn: stub{to: &net.TCPAddr{IP: net.ParseIP(to), Port: 80}}}
		x.warnIfPlain(info)
		if logs.Len() != 0 {
			t.Error("warned of requests that are made as ourselves")
		}
		x.Impersonate = "{http.auth.user.id}"
		x.warnIfPlain(info)
		x.warnIfPlain(info)
		if logs.Len() != want {
			t.Errorf("%s: %d warnings, want %d", to, logs.Len(), want)
		}
	}
}
