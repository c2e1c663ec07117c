package caddynegotiate

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/internal/connections"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
)

// minter mints the token for the connection on which net/http sends a request.
type minter struct {
	transport *Transport
	ctx       context.Context
	outer     *httptrace.ClientTrace // reverse_proxy's; may be nil
	trace     httptrace.ClientTrace
	attempt   negotiate.Attempt
	header    http.Header // of the current sending
	shared    bool        // the current sending uses a connection that users share
	conn      *connections.Conn
	binding   httpauth.Binding
	resumed   bool  // they are those of a resumed TLS session
	mustToken bool  // never send without a token
	err       error // why there is no token
}

// traced returns the context of the request to the upstream. Its trace is
// reverse_proxy's, with two functions in front: gotConn and got1xx.
//
// The trace replaces reverse_proxy's instead of being composed with it:
// httptrace.WithClientTrace composes functions by reflection.
func (m *minter) traced() context.Context {
	if m.outer = httptrace.ContextClientTrace(m.ctx); m.outer != nil {
		m.trace = *m.outer
	}
	m.trace.GotConn, m.trace.Got1xxResponse = m.gotConn, m.got1xx
	return httptrace.WithClientTrace(untraced{m.ctx}, &m.trace)
}

// untraced is a context without its parent's trace.
type untraced struct{ context.Context }

func (c untraced) Value(key any) any {
	value := c.Context.Value(key)
	if _, ok := value.(*httptrace.ClientTrace); ok {
		return nil
	}
	return value
}

// gotConn is called by the goroutine that sends the request, before the header is
// written, and again if net/http takes another connection, after it has given up the
// first.
func (m *minter) gotConn(info httptrace.GotConnInfo) {
	if m.err = m.mint(info); m.err != nil {
		preventSending(info.Conn, m.header, m.transport.h2c)
	}
	if m.outer != nil && m.outer.GotConn != nil {
		m.outer.GotConn(info)
	}
}

// got1xx removes challenges from informational responses. With `mutual_auth required`, and
// on connections that users share, these are not passed on: the upstream proves itself in
// the final response.
func (m *minter) got1xx(code int, header textproto.MIMEHeader) error {
	httpauth.DropChallenges(http.Header(header))
	if m.outer == nil || m.outer.Got1xxResponse == nil || m.shared || m.transport.attempts.MutualAuth == negotiate.MutualAuthRequired {
		return nil
	}
	return m.outer.Got1xxResponse(code, header)
}

// tlsConn is implemented by *tls.Conn and by connections that wrap one.
type tlsConn interface{ ConnectionState() tls.ConnectionState }

// preventSending keeps a request without a token from being sent on its connection. The
// connection is closed, unless other requests share it (HTTP/2): then the request gets a
// header that cannot be written.
func preventSending(conn net.Conn, header http.Header, h2c bool) {
	secured, encrypted := conn.(tlsConn)
	if encrypted && secured.ConnectionState().NegotiatedProtocol == "h2" || !encrypted && h2c {
		header["Authorization"] = []string{"\x00"}
		return
	}
	_ = conn.Close()
}

// mint sets the token for this connection.
func (m *minter) mint(info httptrace.GotConnInfo) error {
	t := m.transport
	delete(m.header, "Authorization")
	m.conn, m.resumed = connections.Of(info.Conn), false
	t.warnIfPlain(info)
	if !m.mustToken && !m.attempt.Repeated() && info.Reused && t.connAuth.skipToken(m.attempt.Target.SPN, info.Conn) {
		m.attempt.WithoutToken()
		return nil
	}
	binding, err := m.bindingOf(info)
	if err != nil {
		return err
	}
	token, err := m.attempt.Mint(m.ctx, binding)
	if err != nil {
		return err
	}
	t.identity.Requests().Token(len(token))
	m.header["Authorization"] = []string{token}
	if t.PerConnection {
		t.connAuth.tokenSent(info.Conn)
	}
	m.warnOfLongToken()
	return nil
}

// warnIfPlain warns of users being impersonated, or tickets being forwarded, over an
// unencrypted network, where an attacker can take over the request.
func (t *Transport) warnIfPlain(info httptrace.GotConnInfo) {
	if info.Reused || t.impersonator == nil && t.attempts.Delegation == negotiate.DelegateNever {
		return
	}
	_, encrypted := info.Conn.(tlsConn)
	if to, ok := info.Conn.RemoteAddr().(*net.TCPAddr); ok && !encrypted && !to.IP.IsLoopback() {
		t.once.warn(t.logger, "plain "+to.String(), "users are impersonated, or tickets forwarded, over plain HTTP: use https:// towards the upstream",
			zap.Stringer("upstream", to))
	}
}

// bindingOf returns the channel binding of a connection, nil if it has none.
func (m *minter) bindingOf(info httptrace.GotConnInfo) (*httpauth.Binding, error) {
	t := m.transport
	if t.pinned != nil || t.channelBinding == config.ChannelBindingOff {
		return t.pinned, nil
	}
	required := t.channelBinding == config.ChannelBindingRequired
	conn, encrypted := info.Conn.(tlsConn)
	switch {
	case !encrypted && required:
		return nil, negotiate.ErrNoBinding
	case !encrypted:
		return nil, nil
	}
	state := conn.ConnectionState()
	var err error
	m.binding, err = t.bindings.Of(&state)
	switch {
	case err == nil:
		m.resumed = state.DidResume
		return &m.binding, nil
	case required:
		return nil, errors.Join(negotiate.ErrNoBinding, err)
	default:
		t.once.warn(t.logger, "binding "+state.ServerName, "the upstream's certificate defines no channel bindings; if the upstream requires them (Extended Protection), give it an RSA or ECDSA certificate",
			zap.String("server_name", state.ServerName), zap.Error(err))
		return nil, nil
	}
}

// Common limits for one header line, in bytes.
const (
	apacheLimit  = 8190
	httpSysLimit = 16 << 10
)

// headerSize is the length of the line of the last token.
func (m *minter) headerSize() int { return len("Authorization: ") + len(m.attempt.Token()) }

// warnOf400 warns that a 400 may be due to the size of the token.
func (m *minter) warnOf400() {
	size := m.headerSize()
	if size <= apacheLimit {
		return
	}
	m.transport.once.warn(m.transport.logger, "400 "+m.attempt.Target.SPN.String(),
		"the upstream answers 400 to a long Authorization header; the account's many groups may be the reason: take it out of groups, "+
			"or raise the upstream's limit (Apache: LimitRequestFieldSize; IIS: MaxFieldLength and MaxRequestBytes)",
		zap.Stringer("spn", m.attempt.Target.SPN), zap.Int("header_bytes", size))
}

// warnOfLongToken warns of tokens near the limits of servers before requests fail.
func (m *minter) warnOfLongToken() {
	size := m.headerSize()
	if size <= apacheLimit*9/10 {
		return
	}
	limit := apacheLimit
	if size > httpSysLimit*9/10 {
		limit = httpSysLimit
	}
	m.transport.once.warn(m.transport.logger, "long "+m.attempt.Target.SPN.String(),
		"the token is near or beyond what servers take in a header line (Apache 8190 bytes, http.sys 16 KiB); usually because the account is in many groups",
		zap.Stringer("spn", m.attempt.Target.SPN), zap.Int("header_bytes", size), zap.Int("limit", limit))
}
