package kdc

import (
	"cmp"
	"context"
	"net"
	"strings"
	"syscall"
)

// Dialer makes connections; *net.Dialer is one. The networks are "udp4",
// "udp6", "tcp4" and "tcp6" with IP address and port, and "tcp" with a name for
// a proxy. UDP sockets must be connected, so that the kernel reports refusals
// and drops datagrams of others.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Dialer returns what connects over TCP as to KDCs: through the proxy if there is one. Check has
// accepted the options.
func (o Options) Dialer() Dialer {
	if o.Proxy != nil {
		return newProxyDialer(o.Proxy, optionsDialer{o})
	}
	return optionsDialer{o}
}

type optionsDialer struct {
	options Options
}

func (d optionsDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if v := d.options.IPVersion; v != 0 && network == "tcp" {
		network += map[int]string{4: "4", 6: "6"}[v]
	}
	dialer := net.Dialer{LocalAddr: d.options.localAddr(network), ControlContext: d.control}
	dialer.SetMultipathTCP(false)
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := d.setBuffers(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// setBuffers applies what the net package can set on every system.
func (d optionsDialer) setBuffers(conn net.Conn) error {
	socket, ok := conn.(interface {
		SetReadBuffer(n int) error
		SetWriteBuffer(n int) error
	})
	if !ok {
		return nil
	}
	if n := d.options.ReadBuffer; n > 0 {
		if err := socket.SetReadBuffer(n); err != nil {
			return err
		}
	}
	if n := d.options.WriteBuffer; n > 0 {
		if err := socket.SetWriteBuffer(n); err != nil {
			return err
		}
	}
	if tcp, ok := conn.(*net.TCPConn); ok && d.options.fixedPort() {
		// Close by reset: otherwise the port would be taken for a minute.
		return tcp.SetLinger(0)
	}
	return nil
}

// control sets what must be set before the socket is connected.
func (d optionsDialer) control(_ context.Context, network, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = setSocketOptions(fd, strings.HasSuffix(network, "6"), strings.HasPrefix(network, "udp"), d.options)
	})
	return cmp.Or(err, failed)
}
