package kdctest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"sync/atomic"
)

// Connection is the state of one connection of an http.Server for the acceptor: the
// certificate that the server presented on it, and the user who authenticated on it.
type Connection struct {
	// ID numbers the connections of a process from 1.
	ID int64

	mu   sync.Mutex
	leaf *x509.Certificate
	peer *Peer
}

type connectionKey struct{}

var connectionIDs atomic.Int64

// ConnectionOf returns the connection of a request, nil if the server has no
// Connections in its ConnContext.
func ConnectionOf(ctx context.Context) *Connection {
	c, _ := ctx.Value(connectionKey{}).(*Connection)
	return c
}

func (c *Connection) certificate() *x509.Certificate {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaf
}

// bound returns the user who last authenticated on the connection.
func (c *Connection) bound() *Peer {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer
}

func (c *Connection) bind(p *Peer) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peer = p
}

// Connections ties requests to connections: Context is for
// http.Server.ConnContext, Certificate for tls.Config.GetCertificate, State for
// http.Server.ConnState. A request does not contain the server's certificate, and the
// certificate may be renewed between two connections.
type Connections struct {
	// Show returns the certificate for new connections; nil without TLS.
	Show func() *tls.Certificate

	open sync.Map // net.Conn below TLS -> *Connection
}

// Context puts the connection into the context of its requests. If its handshake resumes a
// TLS session and shows no certificate, it has the current one.
func (cs *Connections) Context(ctx context.Context, c net.Conn) context.Context {
	conn := &Connection{ID: connectionIDs.Add(1)}
	if t, ok := c.(*tls.Conn); ok {
		conn.leaf, _ = leafOf(cs.Show())
		cs.open.Store(t.NetConn(), conn)
	}
	return context.WithValue(ctx, connectionKey{}, conn)
}

// Forget drops a TLS connection that has ended.
func (cs *Connections) Forget(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		cs.open.Delete(t.NetConn())
	}
}

// Certificate returns the current certificate and records it for the connection.
func (cs *Connections) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert := cs.Show()
	conn, ok := cs.open.Load(hello.Conn)
	if !ok {
		return cert, nil
	}
	leaf, err := leafOf(cert)
	if err != nil {
		return nil, err
	}
	c := conn.(*Connection)
	c.mu.Lock()
	c.leaf = leaf
	c.mu.Unlock()
	return cert, nil
}

func leafOf(cert *tls.Certificate) (*x509.Certificate, error) {
	if cert.Leaf != nil {
		return cert.Leaf, nil
	}
	return x509.ParseCertificate(cert.Certificate[0])
}
