package kdc

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/proxy"
)

// maxConnectReply bounds a proxy's reply to CONNECT, in bytes.
const maxConnectReply = 64 << 10

// newProxyDialer returns a dialer that goes through the proxy, which forward
// connects to. Options.Check has accepted the URL.
func newProxyDialer(u *url.URL, forward Dialer) Dialer {
	address := func(defaultPort string) string {
		if u.Port() != "" {
			return u.Host
		}
		return net.JoinHostPort(u.Hostname(), defaultPort)
	}
	if strings.EqualFold(u.Scheme, "http") {
		return &connectDialer{address("80"), u.User, forward}
	}
	return &socksDialer{address("1080"), u.User, forward}
}

// socksDialer connects through a SOCKS5 proxy (RFC 1928, RFC 1929).
type socksDialer connectDialer

func (d *socksDialer) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	var auth *proxy.Auth
	if d.user != nil {
		password, _ := d.user.Password()
		auth = &proxy.Auth{User: d.user.Username(), Password: password}
	}
	dialer, err := proxy.SOCKS5("tcp", d.address, auth, forwarder{ctx, d.forward})
	if err != nil {
		return nil, fmt.Errorf("socks5 proxy %s: %w", d.address, err)
	}
	conn, err := dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("socks5 proxy %s: %w", d.address, err)
	}
	return conn, nil
}

// forwarder lets the SOCKS client use our dialer.
type forwarder struct {
	ctx context.Context
	Dialer
}

func (f forwarder) Dial(network, address string) (net.Conn, error) {
	return f.DialContext(f.ctx, network, address)
}

// connectDialer connects through an HTTP proxy (RFC 9110, Section 9.3.6).
type connectDialer struct {
	address string
	user    *url.Userinfo
	forward Dialer
}

func (d *connectDialer) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	conn, err := d.forward.DialContext(ctx, "tcp", d.address)
	if err != nil {
		return nil, fmt.Errorf("http proxy %s: %w", d.address, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	tunnel, err := d.connect(conn, address)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("http proxy %s: %w", d.address, err)
	}
	return tunnel, nil
}

func (d *connectDialer) connect(conn net.Conn, address string) (net.Conn, error) {
	request := "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\n"
	if d.user != nil {
		password, _ := d.user.Password()
		pair := base64.StdEncoding.EncodeToString([]byte(d.user.Username() + ":" + password))
		request += "Proxy-Authorization: Basic " + pair + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(io.LimitReader(conn, maxConnectReply))
	response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, fmt.Errorf("no answer to CONNECT: %w", err)
	}
	response.Body.Close()
	if response.StatusCode/100 != 2 {
		return nil, fmt.Errorf("CONNECT %s was answered by status %d", address, response.StatusCode)
	}
	ahead, err := reader.Peek(reader.Buffered())
	if err != nil {
		return nil, err
	}
	return &tunnelConn{Conn: conn, ahead: ahead}, nil
}

// tunnelConn first returns what was read beyond the reply to CONNECT.
type tunnelConn struct {
	net.Conn
	ahead []byte
}

func (c *tunnelConn) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}
