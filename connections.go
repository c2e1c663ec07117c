package caddynegotiate

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

const (
	// maxConnectionPools is how many users can have connections at a time.
	maxConnectionPools = 512
	// userIdleTimeout is how long idle connections of a user are kept: between two
	// pages the user reads for longer than that.
	userIdleTimeout = 15 * time.Second
	// userIdleConns is how many idle connections of a user are kept per upstream.
	userIdleConns    = 4
	userIdleConnsAll = 2 * userIdleConns
)

// connectionPools keeps the connections of different client principals apart. An
// upstream may consider a connection authenticated as the client of its first request
// (IIS's authPersistNonNTLM, Apache's GssapiConnectionBound), so that no two principals
// may share one. Each principal has a clone of the transport that Caddy built.
type connectionPools struct {
	base      *http.Transport
	unlimited bool // each has as many connections, for as long, as base

	mu    sync.RWMutex
	pools map[string]*connectionPool // by client principal
}

// connectionPool is one principal's connections.
type connectionPool struct {
	*http.Transport
	used atomic.Int64 // time of the last use, in nanoseconds since 1970
}

// of returns the transport of a client principal.
func (p *connectionPools) of(client string) *http.Transport {
	p.mu.RLock()
	pool := p.pools[client]
	p.mu.RUnlock()
	if pool == nil {
		pool = p.open(client)
	}
	pool.used.Store(time.Now().UnixNano())
	return pool.Transport
}

func (p *connectionPools) open(client string) *connectionPool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pool := p.pools[client]; pool != nil {
		return pool
	}
	if p.pools == nil {
		p.pools = make(map[string]*connectionPool)
	}
	if len(p.pools) >= maxConnectionPools {
		p.closeLeastRecent()
	}
	pool := &connectionPool{Transport: p.base.Clone()}
	if !p.unlimited {
		pool.limit()
	}
	pool.used.Store(time.Now().UnixNano())
	p.pools[client] = pool
	return pool
}

// limit keeps the number of idle connections low when there are many users.
func (p *connectionPool) limit() {
	if p.IdleConnTimeout <= 0 || p.IdleConnTimeout > userIdleTimeout {
		p.IdleConnTimeout = userIdleTimeout
	}
	p.MaxIdleConnsPerHost = min(p.MaxIdleConnsPerHost, userIdleConns)
	if p.MaxIdleConns == 0 || p.MaxIdleConns > userIdleConnsAll {
		p.MaxIdleConns = userIdleConnsAll
	}
}

// closeLeastRecent drops the pool whose last use is longest ago. Its requests in
// progress continue; their connections are closed when they become idle.
func (p *connectionPools) closeLeastRecent() {
	var oldest string
	var least int64
	for client, pool := range p.pools {
		if used := pool.used.Load(); oldest == "" || used < least {
			oldest, least = client, used
		}
	}
	p.pools[oldest].CloseIdleConnections()
	delete(p.pools, oldest)
}

func (p *connectionPools) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client, pool := range p.pools {
		pool.CloseIdleConnections()
		delete(p.pools, client)
	}
}

// connAuthState is for `per_connection`: it knows which connections and services accept
// requests without a token.
type connAuthState struct {
	mu            sync.Mutex
	refusals      map[string]int      // by service: successive refusals of requests without a token
	authenticated map[string]struct{} // connections that have carried a token, by their addresses
}

const (
	// maxRefusals is how many requests without a token a service may refuse in a row
	// before each request carries one. A single refusal may concern the connection
	// only: its token was refused, or the upstream has dropped its state.
	maxRefusals = 3
	// maxServices bounds refusals, because services can come from requests.
	maxServices = 1024
	// maxAuthenticated bounds authenticated: connections are not removed when they are
	// closed. One that was dropped carries a token again.
	maxAuthenticated = 8192
)

// skipToken reports whether a request may be sent without a token. That a connection is
// reused does not suffice: net/http keeps connections that it opened for a request which
// then got another.
func (s *connAuthState) skipToken(spn negotiate.SPN, conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusals[spn.String()] >= maxRefusals {
		return false
	}
	_, ok := s.authenticated[addresses(conn)]
	return ok
}

// tokenSent records that a connection carries a token.
func (s *connAuthState) tokenSent(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.authenticated == nil || len(s.authenticated) >= maxAuthenticated {
		s.authenticated = make(map[string]struct{})
	}
	s.authenticated[addresses(conn)] = struct{}{}
}

// addresses identifies an open connection.
func addresses(conn net.Conn) string {
	return conn.LocalAddr().String() + " " + conn.RemoteAddr().String()
}

// accepted records that the service accepted a request without a token.
func (s *connAuthState) accepted(spn negotiate.SPN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.refusals[spn.String()]; n > 0 && n < maxRefusals {
		delete(s.refusals, spn.String())
	}
}

// refused records that the service refused a request without a token.
func (s *connAuthState) refused(logger *zap.Logger, spn negotiate.SPN) {
	s.mu.Lock()
	if s.refusals == nil || len(s.refusals) >= maxServices {
		s.refusals = make(map[string]int)
	}
	s.refusals[spn.String()]++
	last := s.refusals[spn.String()] == maxRefusals
	s.mu.Unlock()
	if last {
		logger.Warn("per_connection: the upstream wants a token in each request; it gets one from now on", zap.Stringer("spn", spn))
	}
}

// warnOnce logs each warning once, not for each request.
type warnOnce struct {
	mu     sync.Mutex
	logged map[string]struct{}
}

// maxWarnings bounds the warnings that are kept; beyond it they are logged again.
const maxWarnings = 256

// warn logs a message unless it has been logged with the same key.
func (w *warnOnce) warn(logger *zap.Logger, key, message string, fields ...zap.Field) {
	w.mu.Lock()
	_, logged := w.logged[key]
	if !logged {
		if w.logged == nil || len(w.logged) >= maxWarnings {
			w.logged = make(map[string]struct{})
		}
		w.logged[key] = struct{}{}
	}
	w.mu.Unlock()
	if !logged {
		logger.Warn(message, fields...)
	}
}
