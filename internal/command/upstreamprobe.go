package command

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
)

// upstreamProbe sends test requests to the upstream of a use, each on a connection of its own, and
// reports what the responses mean.
type upstreamProbe struct {
	*check
	use       *use
	grant     negotiate.Grant
	bound     string // the application data of the last channel binding
	url       *url.URL
	transport *http.Transport
	timeout   time.Duration
	offset    *time.Duration // of the upstream's clock, once it is known to be off
}

// newUpstreamProbe fails if only a request determines the upstream.
func (c *check) newUpstreamProbe(u *use, grant negotiate.Grant) (*upstreamProbe, error) {
	transport := cmp.Or(u.HTTP, &http.Transport{TLSClientConfig: new(tls.Config)}).Clone()
	p := &upstreamProbe{check: c, use: u, grant: grant, url: c.target, transport: transport, timeout: max(10*time.Second, 3*c.patience)}
	p.transport.DisableKeepAlives = true
	p.transport.ResponseHeaderTimeout = max(10*time.Second, c.patience)
	switch {
	case c.target != nil && c.target.Host != "":
		return p, nil
	case u.dial != "":
		return p, p.locate()
	default:
		return nil, errors.New("the request is not checked: the upstream depends on requests")
	}
}

// locate sends the requests to the configuration's upstream. --url may have the path.
func (p *upstreamProbe) locate() error {
	u, target := p.use, p.target
	address, err := caddy.ParseNetworkAddressWithDefaults(u.dial, "tcp", 80)
	if err != nil {
		return fmt.Errorf("the upstream %s is not an address: %w", u.dial, err)
	}
	p.url = &url.URL{Scheme: "http", Host: address.JoinHostPort(0), Path: "/"}
	if u.TLS {
		p.url.Scheme = "https"
	}
	if address.IsUnixNetwork() {
		p.url.Host = "localhost"
		p.transport.DialTLSContext = nil
		p.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", address.Host)
		}
	}
	if target != nil {
		p.url.Path, p.url.RawPath, p.url.RawQuery = target.Path, target.RawPath, target.RawQuery
	}
	return nil
}

// tokenKind says with which token a request is sent.
type tokenKind int

const (
	noToken tokenKind = iota
	unboundToken
	boundToken // to the TLS connection, if there is one
)

// response is the result of one request.
type response struct {
	status    int
	header    http.Header
	encrypted bool
	verdict   negotiate.Verdict
	size      int  // of the Authorization line, in bytes
	bound     bool // the token was bound to the TLS connection
	err       error
}

// maxBody bounds how much of a response's body is read.
const maxBody = 64 << 10

// request sends one GET, with a further header of so many bytes unless padding is zero.
func (p *upstreamProbe) request(ctx context.Context, kind tokenKind, padding int) (r response) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, upstreamReplacer(p.url.Hostname()))
	var (
		token  negotiate.Token
		minted error
		req    *http.Request
	)
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		conn, encrypted := info.Conn.(interface{ ConnectionState() tls.ConnectionState })
		if r.encrypted = encrypted; kind == noToken {
			return
		}
		features := negotiate.Features{Mutual: p.use.service.MutualAuth != negotiate.MutualAuthOff, Raw: p.use.service.RawKerberos, ClockOffset: p.offset}
		if encrypted && kind == boundToken {
			features.Bindings = p.binding(conn.ConnectionState())
		}
		r.bound = features.Bindings != nil
		if token, minted = p.grant.Mint(ctx, features); minted == nil {
			req.Header.Set("Authorization", token.Header)
			r.size = len("Authorization: ") + len(token.Header)
		}
	}}
	if req, r.err = http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodGet, p.url.String(), nil); r.err != nil {
		return r
	}
	req.Header.Set("User-Agent", "caddy-kerberos-check")
	if padding > 0 {
		const name = "X-Caddy-Kerberos-Check"
		req.Header.Set(name, strings.Repeat("x", max(1, padding-len(name)-2)))
	}
	defer func() { token.Close() }()
	answer, err := p.transport.RoundTrip(req)
	if r.err = errors.Join(minted, err); r.err != nil {
		return r
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, maxBody)
	r.status, r.header = answer.StatusCode, answer.Header
	if kind != noToken {
		r.verdict = token.Judge(answer.StatusCode, answer.Header)
	}
	return r
}

// binding returns the channel binding of a connection, nil if its certificate defines none.
func (p *upstreamProbe) binding(state tls.ConnectionState) *httpauth.Binding {
	if p.use.Pinned != nil {
		return p.use.Pinned
	}
	var cached httpauth.Bindings
	binding, err := cached.Of(&state)
	if err != nil {
		return nil
	}
	p.bound = binding.Data
	return &binding
}
