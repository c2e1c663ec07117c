package caddynegotiate

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// errBindingMissing is for connections without what `channel_binding required` demands.
var errBindingMissing = errors.New("the connection offers nothing to bind the token to")

// tlsConn is a *tls.Conn, or what wraps one.
type tlsConn interface{ ConnectionState() tls.ConnectionState }

// gotConn is called in the goroutine that sends, before the header is written;
// once more when net/http takes another connection, which it does when nobody
// writes to the first any more.
func (x *trip) gotConn(info httptrace.GotConnInfo) {
	if x.minted = x.mint(x.header, info, x.ahead); x.minted != nil {
		withholdRequest(info.Conn, x.header, slices.Contains(x.transport.Versions, "h2c"))
	}
}

// withholdRequest keeps a request without a token from going out on the connection
// that it got. That is closed, unless others share it (HTTP/2): there the request is
// made one that cannot be written.
func withholdRequest(conn net.Conn, header http.Header, h2c bool) {
	secured, encrypted := conn.(tlsConn)
	if encrypted && secured.ConnectionState().NegotiatedProtocol == "h2" || !encrypted && h2c {
		header["Authorization"] = []string{"\x00"}
		return
	}
	_ = conn.Close()
}

// mint puts a token for this very connection into the header.
func (x *trip) mint(header http.Header, info httptrace.GotConnInfo, ahead *time.Duration) error {
	t := x.transport
	delete(header, "Authorization")
	t.warnIfPlain(info)
	x.bare = !x.mustToken && info.Reused && t.habits.skipToken(x.target.SPN, info.Conn)
	if x.bare {
		x.token = negotiate.Token{}
		return nil
	}
	features := negotiate.Features{Mutual: t.mutual, Raw: t.RawKerberos, Ahead: ahead}
	var bindings gss.ChannelBindings
	bound, err := t.bindingsOf(info, &bindings)
	if err != nil {
		return err
	}
	if bound {
		features.Bindings = &bindings
	}
	if x.token, err = x.grant.Mint(x.ctx, features); err != nil {
		return err
	}
	tokenBytes.Observe(float64(len(x.token.Header)))
	header["Authorization"] = []string{x.token.Header}
	if t.PerConnection {
		t.habits.carry(info.Conn)
	}
	x.warnIfLong()
	return nil
}

// warnIfPlain says once that somebody is acted for, or our own ticket handed over,
// where others may read along and take over the request.
func (t *Transport) warnIfPlain(info httptrace.GotConnInfo) {
	if info.Reused || !t.enabled() && t.Delegate == "" {
		return
	}
	_, encrypted := info.Conn.(tlsConn)
	if to, ok := info.Conn.RemoteAddr().(*net.TCPAddr); ok && !encrypted && !to.IP.IsLoopback() {
		t.once.warn(t.logger, "plain "+to.String(), "users are acted for, or tickets handed over, by plain HTTP: use https:// towards the upstream",
			zap.Stringer("upstream", to))
	}
}

// bindingsOf gives the channel bindings of a connection, if there are any.
func (t *Transport) bindingsOf(info httptrace.GotConnInfo, into *gss.ChannelBindings) (bool, error) {
	if t.pinned != nil {
		*into = *t.pinned
		return true, nil
	}
	if t.ChannelBinding == "off" {
		return false, nil
	}
	required := t.ChannelBinding == "required"
	conn, encrypted := info.Conn.(tlsConn)
	if !encrypted {
		if required {
			return false, errBindingMissing
		}
		return false, nil
	}
	state := conn.ConnectionState()
	var err error
	*into, err = t.bindings.Of(&state)
	switch {
	case err == nil:
		return true, nil
	case required:
		return false, errors.Join(errBindingMissing, err)
	default:
		t.once.warn(t.logger, "binding "+state.ServerName, "the upstream's certificate defines no channel bindings; if it demands them (Extended Protection), give it an RSA or ECDSA certificate",
			zap.String("server_name", state.ServerName), zap.Error(err))
		return false, nil
	}
}

// The limits of one header line that matter in the field.
const (
	apacheLimit  = 8190
	httpSysLimit = 16 << 10
)

// warnOfSize says that a 400 may be about the token's size.
func (x *trip) warnOfSize() {
	size := len("Authorization: ") + len(x.token.Header)
	if size <= apacheLimit {
		return
	}
	x.transport.once.warn(x.transport.logger, "400 "+x.target.SPN.String(),
		"the upstream answers 400 to a long Authorization header; the account's many groups may be the reason: take it out of groups, "+
			"or raise the upstream's limit (Apache: LimitRequestFieldSize; IIS: MaxFieldLength and MaxRequestBytes)",
		zap.Stringer("spn", x.target.SPN), zap.Int("header_bytes", size))
}

// warnIfLong warns, before anything fails, of tokens near the limits of servers.
func (x *trip) warnIfLong() {
	size := len("Authorization: ") + len(x.token.Header)
	if size <= apacheLimit*9/10 {
		return
	}
	limit := apacheLimit
	if size > httpSysLimit*9/10 {
		limit = httpSysLimit
	}
	x.transport.once.warn(x.transport.logger, "long "+x.target.SPN.String(),
		"the token is near or beyond what servers take in a header line (Apache 8190 bytes, http.sys 16 KiB); the account's many groups are the reason as a rule",
		zap.Stringer("spn", x.target.SPN), zap.Int("header_bytes", size), zap.Int("limit", limit))
}
