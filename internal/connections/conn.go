package connections

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// Conn is a connection to an upstream, below TLS.
type Conn struct {
	net.Conn
	pool       *Pool
	server     *server // nil if the connection leads to a network proxy
	generation uint64

	// Guarded by Pool.mu.
	proven  int    // successive tokens of the owner that the upstream has proven to have read
	service string // that they were for
}

// Of returns the connection that net/http calls conn; nil if it is not a pool's.
func Of(conn net.Conn) *Conn {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	c, _ := conn.(*Conn)
	return c
}

// dialPlain is the transport's DialContext.
func (p *Pool) dialPlain(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := p.open(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// open opens a connection. For a marked address, reverse_proxy's dialer takes the true one
// from the context.
func (p *Pool) open(ctx context.Context, network, address string) (*Conn, error) {
	c := &Conn{pool: p}
	if info, ok := reverseproxy.GetDialInfo(ctx); ok && leadsTo(address, info) {
		c.server = p.server(info.Address)
		c.generation = c.server.generation.Load()
	}
	var err error
	c.Conn, err = p.dial(ctx, network, address)
	return c, err
}

// leadsTo reports whether an address that net/http dials is the upstream's, and not a
// network proxy's.
func leadsTo(address string, info reverseproxy.DialInfo) bool {
	return isMarked(address) || address == info.Address
}

// dialTLS is the transport's DialTLSContext. It differs from what net/http does by itself
// in the server's name, which a marked address does not show, and in resuming sessions.
func (p *Pool) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := p.open(ctx, network, address)
	if err != nil {
		return nil, err
	}
	secured := tls.Client(c, p.tlsConfig(ctx, c, address))
	if p.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.timeout)
		defer cancel()
	}
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	return secured, nil
}

// tlsConfig returns the configuration for one connection.
func (p *Pool) tlsConfig(ctx context.Context, c *Conn, address string) *tls.Config {
	cfg := p.tls.Clone()
	if strings.Contains(cfg.ServerName, "{") { // tls_server_name with placeholders
		if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
			cfg.ServerName = repl.ReplaceAll(cfg.ServerName, "")
		}
	}
	if cfg.ServerName == "" {
		if c.server != nil {
			address = c.server.address
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			host = address
		}
		cfg.ServerName = host
	}
	if c.server != nil {
		cfg.ClientSessionCache = c.server.sessionCache()
	}
	return cfg
}

// dropInterval is how often the sessions of a server are dropped at most: any client may
// be able to make an upstream refuse a request.
const dropInterval = 30 * time.Second

// DropSessions is for a connection with a resumed TLS session on which the upstream has
// refused a token with channel bindings: the session holds the certificate of the first
// handshake, and the upstream may have another one by now. It forgets the upstream's
// sessions and leaves its connections to their end, so that later requests use new
// connections, the first with a full handshake. It is false, and does nothing, if that has
// been done within the last 30 seconds for another reason than this connection.
func (c *Conn) DropSessions() bool {
	if c == nil || c.server == nil {
		return false
	}
	return c.server.drop(c)
}

// Abort closes the connection at once, whatever is left to read.
func (c *Conn) Abort() {
	if c != nil {
		_ = c.Close()
	}
}

// Proven records that the upstream has proven to have read a token for the service, in a
// request of the connection's owner. It is true if users share connections from now on.
func (c *Conn) Proven(service string) bool {
	if c == nil || c.server == nil {
		return false
	}
	return c.pool.learn(c, service)
}

// Unproven records that a response of the upstream did not prove that it has read the
// token.
func (c *Conn) Unproven() {
	if c == nil {
		return
	}
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	c.proven = 0
}
