package integration

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// peer is an upstream beside the site's own: a service with its acceptor.
type peer struct {
	service  *kdctest.Principal
	acceptor *kdctest.Acceptor
	*kdctest.Upstream
}

// serve starts another upstream, for a service that may be there already.
func (s *site) serve(service string, with kdctest.AcceptorConfig, how kdctest.UpstreamConfig) *peer {
	s.t.Helper()
	p := &peer{service: s.realm.Principal(service)}
	if p.service == nil {
		p.service = s.realm.AddService(service)
	}
	with.Keytab = s.keysOf(p.service)
	var err error
	if p.acceptor, err = kdctest.NewAcceptor(with); err != nil {
		s.t.Fatal(err)
	}
	how.Acceptor = p.acceptor
	p.Upstream = kdctest.NewUpstream(how)
	if err := p.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(p.Stop)
	return p
}

// port is where an upstream listens.
func (p *peer) port() string {
	_, port, _ := net.SplitHostPort(p.Addr())
	return port
}

// negotiating is a transport block that logs in by keytab, with further lines.
func (s *site) negotiating(more ...string) string {
	return block("transport negotiate", append([]string{
		"kdc " + s.kdc.Addr(), "user " + principal, "keytab " + s.keytab,
	}, more...)...)
}

// proxying is a reverse_proxy to the upstreams with the lines in its block.
func proxying(upstreams string, in ...string) string { return block("reverse_proxy "+upstreams, in...) }

func block(name string, in ...string) string {
	return name + " {\n" + strings.Join(in, "\n") + "\n}"
}

// config is a whole configuration: global options beside the usual ones, and what
// a site on Caddy's address does. An error shows in X-Error.
func (s *site) config(global string, does ...string) string {
	return s.sites(global, "http://"+s.address, does...)
}

func (s *site) sites(global, address string, does ...string) string {
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system %s
	log {
		output capture %s
		level INFO
	}
	servers {
		enable_full_duplex
	}
	%s
}
%s
`, filepath.Join(s.folder, "storage"), s.log.name, global, s.site(address, does...))
}

// site is one site block.
func (s *site) site(address string, does ...string) string {
	return block(address, append([]string{
		"bind 127.0.0.1",
		block("header", `X-Error "{http.negotiate.error}"`, `X-SPN "{http.negotiate.spn}"`, "defer"),
	}, does...)...)
}

// run loads a site that proxies to the upstreams over the transport. Each has an
// address of its own: where Caddy takes one over from itself, the kernel may reset
// a connection that comes at that moment.
func (s *site) run(upstreams string, transport ...string) {
	s.t.Helper()
	s.address = freeAddress(s.t)
	s.mustLoad(s.config("", proxying(upstreams, s.negotiating(transport...))))
}

func (s *site) mustLoad(text string) {
	s.t.Helper()
	if err := s.loadFile(text); err != nil {
		s.t.Fatal(err)
	}
}

// wantAnswer fails unless Caddy answered so, in the upstream's place.
func (a answer) wantAnswer(t *testing.T, status int, name string) {
	t.Helper()
	if a.status != status || a.body != name+"\n" || a.header.Get("X-Error") != name {
		t.Fatalf("%d %q, error %q, want %d %s", a.status, a.body, a.header.Get("X-Error"), status, name)
	}
}

// request makes one for Caddy.
func (s *site) request(method, path string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url(path), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// errStop ends traffic.
var errStop = errors.New("enough")

// traffic makes requests from many clients at a time and returns what went wrong.
// Each gets its number.
func traffic(n, concurrency int, ask func(i int) error) []error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		next int
		errs []error
	)
	for range concurrency {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= n {
					return
				}
				err := ask(i)
				if errors.Is(err, errStop) {
					return
				}
				if err != nil {
					mu.Lock()
					errs = append(errs, fmt.Errorf("request %d: %w", i, err))
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return errs
}

// nameServer is a DNS server that knows these hosts, names without a dot at their
// end, and gives its address.
func nameServer(t *testing.T, hosts map[string]string) string {
	t.Helper()
	address, stop, err := kdctest.StartNameServer(func(host string) (netip.Addr, bool) {
		ip, err := netip.ParseAddr(hosts[host])
		return ip, err == nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return address
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
