package connections

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// upstream is a web server that answers with the connection's client address, and counts
// its open connections.
type upstream struct {
	*httptest.Server
	mu     sync.Mutex
	open   map[net.Conn]bool
	opened int
}

func newUpstream(t *testing.T, start func(*httptest.Server)) *upstream {
	t.Helper()
	u := &upstream{open: make(map[net.Conn]bool)}
	u.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }))
	u.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		u.mu.Lock()
		defer u.mu.Unlock()
		switch state {
		case http.StateNew:
			u.open[conn] = true
			u.opened++
		case http.StateClosed:
			delete(u.open, conn)
		}
	}
	start(u.Server)
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) counts() (open, opened int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.open), u.opened
}

// settle waits until at most so many connections are open.
func (u *upstream) settle(t *testing.T, most int) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for {
		open, _ := u.counts()
		if open <= most {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d connections are open after a minute, want %d at most", open, most)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (u *upstream) address() string { return u.Listener.Addr().String() }

// newPool dials as reverse_proxy's HTTPTransport does.
func newPool(t *testing.T, base *http.Transport) *Pool {
	t.Helper()
	base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if isMarked(address) {
			info, _ := reverseproxy.GetDialInfo(ctx)
			address = info.Address
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	t.Cleanup(base.CloseIdleConnections)
	return New(base)
}

// get asks the upstream, as reverse_proxy would, and returns the answer.
func (p *Pool) get(ctx context.Context, scheme string, route Route) (string, error) {
	host, port, _ := net.SplitHostPort(route.Upstream)
	ctx = context.WithValue(ctx, caddy.CtxKey("reverse_proxy.dial_info"),
		reverseproxy.DialInfo{Network: "tcp", Address: route.Upstream, Host: host, Port: port})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+route.Upstream, nil)
	if err != nil {
		return "", err
	}
	res, err := p.RoundTrip(r, route)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func (p *Pool) mustGet(t *testing.T, scheme string, route Route) string {
	t.Helper()
	return must.OK(p.get(t.Context(), scheme, route))(t)
}

// Nobody's connection is another's: not of a user whose name looks like another's mark,
// not the shared one's, not our own.
func TestPool_KeptApart(t *testing.T) {
	u := newUpstream(t, (*httptest.Server).Start)
	p := newPool(t, &http.Transport{MaxIdleConnsPerHost: 32})
	at := u.address()
	routes := []Route{
		{Upstream: at},
		{Upstream: at, Owner: "alice@A"},
		{Upstream: at, Owner: "alice@B"},
		{Upstream: at, Owner: "Alice@A"},
		{Upstream: at, Owner: "ä@A"},
		{Upstream: at, Owner: "a"},
		{Upstream: at, Owner: "61"},
		{Upstream: at, Owner: "a!"},
		{Upstream: at, Owner: "HTTP/a"},
		{Upstream: at, Service: "HTTP/a", Shared: true},
		{Upstream: at, Service: "HTTP/b", Shared: true},
	}
	owner := make(map[string]Route)
	for range 20 {
		for _, route := range routes {
			conn := p.mustGet(t, "http", route)
			if before, ok := owner[conn]; ok && before != route {
				t.Fatalf("%v was sent over the connection of %v", route, before)
			}
			owner[conn] = route
		}
	}
	// On a busy machine net/http may close one: it had not yet seen that the request was written.
	if len(owner) > 2*len(routes) {
		t.Errorf("%d connections for %d routes: they are not kept", len(owner), len(routes))
	}
}

func TestPool_OthersOfTheSharedConnection(t *testing.T) {
	u := newUpstream(t, (*httptest.Server).Start)
	p := newPool(t, new(http.Transport))
	shared := Route{Upstream: u.address(), Service: "HTTP/a", Shared: true}
	alice, bob := shared, shared
	alice.Owner, bob.Owner = "alice@A", "bob@A"
	if a, b := p.mustGet(t, "http", alice), p.mustGet(t, "http", bob); a != b {
		t.Errorf("%s and %s: two connections", a, b)
	}
}

// All users together have a bound; the least recently used connection goes first.
func TestPool_Bound(t *testing.T) {
	u := newUpstream(t, (*httptest.Server).Start)
	const most, users = 50, 500
	p := newPool(t, &http.Transport{MaxIdleConns: most, MaxIdleConnsPerHost: most})
	route := func(name string) Route { return Route{Upstream: u.address(), Owner: name} }
	first := p.mustGet(t, "http", route("first"))
	for i := range users {
		p.mustGet(t, "http", route(fmt.Sprint("user", i)))
		if i%20 == 0 && p.mustGet(t, "http", route("first")) != first {
			t.Fatal("an active user has lost the connection")
		}
	}
	u.settle(t, most)
	p.transport.CloseIdleConnections()
	u.settle(t, 0)
	if p.mustGet(t, "http", route("first")) == first { // a request that is late
		t.Error("a closed connection is in use")
	}
}

// A user with many requests at once keeps as many connections.
func TestPool_BusyUser(t *testing.T) {
	const width = 16
	var inside sync.WaitGroup
	u := newUpstream(t, func(s *httptest.Server) {
		s.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			inside.Done()
			inside.Wait() // until all have arrived
		})
		s.Start()
	})
	p := newPool(t, &http.Transport{MaxIdleConns: 100, MaxIdleConnsPerHost: 100})
	for range 20 {
		inside.Add(width)
		var all sync.WaitGroup
		for range width {
			all.Go(func() { _, _ = p.get(t.Context(), "http", Route{Upstream: u.address(), Owner: "alice"}) })
		}
		all.Wait()
	}
	if _, opened := u.counts(); opened > 2*width {
		t.Errorf("%d connections were opened for %d requests at a time", opened, width)
	}
}

// networkProxy is an HTTP proxy. It answers plain requests itself, with the connection
// they came over and the address they are for, and tunnels others.
func networkProxy(t *testing.T, tunnels func(address string)) *url.URL {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			fmt.Fprint(w, r.RemoteAddr, " ", r.RequestURI)
			return
		}
		tunnels(r.Host)
		out, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer out.Close()
		in, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer in.Close()
		_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(in, out)
			_ = in.Close()
		}()
		_, _ = io.Copy(out, in)
	}))
	t.Cleanup(s.Close)
	return must.OK(url.Parse(s.URL))(t)
}

// net/http keeps one pool for all that goes through an HTTP proxy, whatever its address.
func TestPool_NetworkProxy(t *testing.T) {
	u := newUpstream(t, (*httptest.Server).StartTLS)
	var elsewhere atomic.Value
	proxy := networkProxy(t, func(address string) {
		if address != u.address() {
			elsewhere.Store(address)
		}
	})
	base := u.Client().Transport.(*http.Transport).Clone()
	base.Proxy = http.ProxyURL(proxy)
	p := newPool(t, base)
	for _, scheme := range []string{"http", "https"} {
		owner := make(map[string]string)
		for range 3 {
			for _, name := range []string{"alice", "bob"} {
				answer := p.mustGet(t, scheme, Route{Upstream: u.address(), Owner: name})
				conn, target, _ := strings.Cut(answer, " ")
				if scheme == "http" && target != "http://"+u.address()+"/" {
					t.Errorf("the proxy was asked for %q", target)
				}
				if before, ok := owner[conn]; ok && before != name {
					t.Errorf("%s: %s was sent over the connection of %s", scheme, name, before)
				}
				owner[conn] = name
			}
		}
		if len(owner) > 4 {
			t.Errorf("%s: %d connections for 2 users", scheme, len(owner))
		}
	}
	if address := elsewhere.Load(); address != nil {
		t.Errorf("a tunnel to %q", address)
	}
}

func TestPool_Servers(t *testing.T) {
	p := newPool(t, new(http.Transport))
	for i := range 3 * maxServers {
		p.server(fmt.Sprint(i))
	}
	if len(p.servers) > maxServers {
		t.Errorf("%d addresses are kept", len(p.servers))
	}
}
