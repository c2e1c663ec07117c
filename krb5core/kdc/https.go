package kdc

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

const (
	proxyContentType = "application/kerberos"
	// maxProxyHeader bounds the header of a proxy's response, and maxWrapping
	// what KDC-PROXY-MESSAGE adds to a Kerberos message, both in bytes.
	maxProxyHeader = 64 << 10
	maxWrapping    = 1 << 10
)

// https asks a KDC proxy, [MS-KKDCP], Section 3.2.5. The connection serves this
// one request, so that nothing of it is left behind.
func (a *ask) https(ctx context.Context) (Reply, error) {
	c, err := a.dial(ctx, HTTPS)
	if err != nil {
		return Reply{}, err
	}
	defer c.close()
	cfg := a.cfg.tls.Clone()
	cfg.ServerName = strings.TrimSuffix(a.peer.server.Host, ".")
	secured := tls.Client(c.Conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		return Reply{}, c.fail(fmt.Errorf("TLS: %w", err))
	}
	c.Conn = secured

	wrapped := (&ProxyMessage{Message: c.message, TargetDomain: a.request.Realm}).Append(nil)
	request, err := a.proxyRequest(ctx, wrapped)
	if err != nil {
		return Reply{}, err
	}
	transport := &http.Transport{
		DialTLSContext:         func(context.Context, string, string) (net.Conn, error) { return secured, nil },
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxProxyHeader, // of all responses, 1xx included
	}
	c.observe(Sent, c.message, nil)
	response, err := transport.RoundTrip(request)
	if err != nil {
		return c.receive(nil, fmt.Errorf("no HTTP response: %w", err))
	}
	defer response.Body.Close()
	message, err := readProxyResponse(response, a.cfg.Options.maxReplySize())
	return c.receive(message, err)
}

func (a *ask) proxyRequest(ctx context.Context, body []byte) (*http.Request, error) {
	target, err := url.Parse(a.peer.server.String())
	if err != nil {
		return nil, fmt.Errorf("KDC proxy %s: %w", a.peer.server, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", proxyContentType)
	request.Header.Set("User-Agent", "kerberos/1.0")
	request.Header.Set("Cache-Control", "no-cache")
	return request, nil
}

// readProxyResponse reads the Kerberos message, of at most limit bytes, that an
// HTTP response contains.
func readProxyResponse(response *http.Response, limit int) ([]byte, error) {
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the KDC proxy answered with HTTP status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, int64(limit)+maxWrapping+1))
	if err != nil {
		return nil, fmt.Errorf("reading the KDC proxy's response: %w", err)
	}
	if len(body) > limit+maxWrapping {
		return nil, fmt.Errorf("%w: max_reply_size is %d", ErrReplyTooBig, limit)
	}
	m, err := ParseProxyMessage(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if len(m.Message) > limit {
		return nil, fmt.Errorf("%w: it has %d bytes, max_reply_size is %d", ErrReplyTooBig, len(m.Message), limit)
	}
	return m.Message, nil
}
