package connections

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Route says which connections a request may use.
type Route struct {
	// Upstream is the address that is dialed.
	Upstream string
	// Service is the principal that tokens are for.
	Service string
	// Owner is the client principal to whom the connections belong; empty for the
	// connections of requests that are not made in a user's name.
	Owner string
	// Shared is set for the connections that users share. Owner does not count then.
	Shared bool
}

// Pool is an http.Transport for HTTP/1.1 whose connections are kept apart by owner.
type Pool struct {
	transport *http.Transport
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	proxy     func(*http.Request) (*url.URL, error)
	tls       *tls.Config
	timeout   time.Duration // of a TLS handshake; zero: none

	generations atomic.Uint64 // the number of times that TLS sessions were dropped

	mu      sync.RWMutex
	servers map[string]*server // by address
	sharing map[target]verdict
}

// New makes a pool of a transport that reverse_proxy's HTTPTransport has built, and
// changes how that dials: it has to be used through the pool from now on.
func New(base *http.Transport) *Pool {
	p := &Pool{
		transport: base, dial: base.DialContext, proxy: base.Proxy, tls: base.TLSClientConfig, timeout: base.TLSHandshakeTimeout,
		servers: make(map[string]*server), sharing: make(map[target]verdict),
	}
	if p.tls == nil {
		p.tls = new(tls.Config)
	}
	base.DialContext = p.dialPlain
	base.DialTLSContext = p.dialTLS
	if p.proxy != nil {
		base.Proxy = p.proxyFor
	}
	return p
}

// RoundTrip sends a request over connections of the route. It replaces r.URL.
func (p *Pool) RoundTrip(r *http.Request, route Route) (*http.Response, error) {
	var buffer [128]byte
	mark := p.appendMark(buffer[:0], route)
	if len(mark) == 0 {
		return p.transport.RoundTrip(r)
	}
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	if p.proxy != nil {
		if proxy, err := p.proxy(r); err != nil || proxy != nil {
			// The network proxy has to be told the true address.
			return p.transport.RoundTrip(r.WithContext(context.WithValue(r.Context(), markKey{}, string(mark))))
		}
	}
	marked := *r.URL
	marked.Host = string(append(mark, marked.Host...))
	r.URL = &marked
	return p.transport.RoundTrip(r)
}

// A mark in front of an address ends with a character that no address has.
const endOfMark = '@'

// appendMark appends what distinguishes the route's connections from others to the
// address: different owners have different marks.
func (p *Pool) appendMark(b []byte, route Route) []byte {
	generation := p.server(route.Upstream).generation.Load()
	switch {
	case route.Shared:
		b = append(hex.AppendEncode(b, []byte(route.Service)), '!')
	case route.Owner != "":
		b = hex.AppendEncode(b, []byte(route.Owner))
	case generation == 0:
		return b
	}
	if generation > 0 {
		b = strconv.AppendUint(append(b, '.'), generation, 10)
	}
	return append(b, endOfMark)
}

// isMarked reports whether an address has a mark.
func isMarked(address string) bool { return strings.IndexByte(address, endOfMark) >= 0 }

type markKey struct{}

// proxyFor is the transport's Proxy. Its connections through a network proxy are kept
// apart by the proxy's URL, in which net/http ignores the fragment.
func (p *Pool) proxyFor(r *http.Request) (*url.URL, error) {
	if isMarked(r.URL.Host) {
		return nil, nil // RoundTrip has asked
	}
	proxy, err := p.proxy(r)
	mark, ok := r.Context().Value(markKey{}).(string)
	if err != nil || proxy == nil || !ok {
		return proxy, err
	}
	marked := *proxy
	marked.Fragment = mark
	return &marked, nil
}
