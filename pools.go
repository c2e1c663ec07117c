package caddynegotiate

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxPools bounds how many users have connections of their own at a time.
	maxPools = 512
	// userIdleTimeout is how long a user's connections are kept: a person clicks, and then reads.
	userIdleTimeout = 15 * time.Second
	// userIdleConns is how many of them are kept per upstream, and in all.
	userIdleConns    = 4
	userIdleConnsAll = 2 * userIdleConns
)

// pools keeps the connections of different identities apart: an upstream may
// take a connection for authenticated as who came first on it (IIS's
// authPersistNonNTLM, Apache's GssapiConnectionBound), so that none may serve two.
// Each client principal has a clone of the one transport that Caddy built.
type pools struct {
	base  *http.Transport
	whole bool // each has as many connections, for as long, as base has

	mu    sync.RWMutex
	users map[string]*pool
}

// pool is a client principal's connections.
type pool struct {
	*http.Transport
	used atomic.Int64 // when, in nanoseconds since 1970
}

// of gives the transport for a client principal.
func (p *pools) of(client string) *http.Transport {
	p.mu.RLock()
	known := p.users[client]
	p.mu.RUnlock()
	if known == nil {
		known = p.open(client)
	}
	known.used.Store(time.Now().UnixNano())
	return known.Transport
}

func (p *pools) open(client string) *pool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.users[client]; known != nil {
		return known
	}
	if p.users == nil {
		p.users = make(map[string]*pool)
	}
	if len(p.users) >= maxPools {
		p.closeOldest()
	}
	fresh := &pool{Transport: p.base.Clone()}
	if !p.whole {
		fresh.limit()
	}
	fresh.used.Store(time.Now().UnixNano())
	p.users[client] = fresh
	return fresh
}

// limit sees to it that many users have few connections, and none for long.
func (p *pool) limit() {
	if p.IdleConnTimeout <= 0 || p.IdleConnTimeout > userIdleTimeout {
		p.IdleConnTimeout = userIdleTimeout
	}
	p.MaxIdleConnsPerHost = min(p.MaxIdleConnsPerHost, userIdleConns)
	if p.MaxIdleConns == 0 || p.MaxIdleConns > userIdleConnsAll {
		p.MaxIdleConns = userIdleConnsAll
	}
}

// closeOldest forgets who has been away longest. Requests under way go on; their
// connections are closed when idle.
func (p *pools) closeOldest() {
	var oldest string
	var least int64
	for client, pool := range p.users {
		if used := pool.used.Load(); oldest == "" || used < least {
			oldest, least = client, used
		}
	}
	p.users[oldest].CloseIdleConnections()
	delete(p.users, oldest)
}

// close closes all idle connections.
func (p *pools) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client, pool := range p.users {
		pool.CloseIdleConnections()
		delete(p.users, client)
	}
}
