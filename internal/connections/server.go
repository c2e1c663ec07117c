package connections

import (
	"crypto/tls"
	"sync"
	"sync/atomic"
	"time"
)

// server is what is known of an upstream by its address.
type server struct {
	address    string
	pool       *Pool
	generation atomic.Uint64 // of the connections in use

	mu       sync.Mutex
	sessions tls.ClientSessionCache
	dropped  time.Time // when sessions were dropped; zero: never
}

// Upstreams can be dynamic, and server names can depend on requests.
const (
	maxServers     = 1024
	maxServerNames = 16 // with a session, per server
)

// server returns what is known of an address.
func (p *Pool) server(address string) *server {
	p.mu.RLock()
	s := p.servers[address]
	p.mu.RUnlock()
	if s != nil {
		return s
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s = p.servers[address]; s != nil {
		return s
	}
	if len(p.servers) >= maxServers {
		clear(p.servers)
	}
	s = &server{address: address, pool: p, sessions: tls.NewLRUClientSessionCache(maxServerNames)}
	s.generation.Store(p.generations.Load())
	p.servers[address] = s
	return s
}

func (s *server) sessionCache() tls.ClientSessionCache {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// drop implements Conn.DropSessions. Connections that are being opened keep the old cache,
// which no other request uses any more.
func (s *server) drop(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.generation != s.generation.Load() {
		return true // another connection's refusal has done so
	}
	if !s.dropped.IsZero() && time.Since(s.dropped) < dropInterval {
		return false
	}
	s.dropped = time.Now()
	s.sessions = tls.NewLRUClientSessionCache(maxServerNames)
	s.generation.Store(s.pool.generations.Add(1))
	return true
}
