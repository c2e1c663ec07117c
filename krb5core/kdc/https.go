package kdc

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const (
	proxyContentType = "application/kerberos"
	// maxProxyHeader bounds the header of a proxy's response, and maxWrapping
	// what KDC-PROXY-MESSAGE adds to a Kerberos message, both in octets.
	maxProxyHeader = 64 << 10
	maxWrapping    = 1 << 10
	// maxInterim is how many 1xx responses may precede the response.
	maxInterim = 4
)

// newTLSConfig makes the configuration that all connections to KDC proxies
// share, so that sessions can be resumed.
func newTLSConfig(o Options) *tls.Config {
	return &tls.Config{
		RootCAs:            o.RootCAs,
		Certificates:       o.ClientCertificates,
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
		NextProtos:         []string{"http/1.1"},
		MinVersion:         tls.VersionTLS12,
	}
}

// https asks a KDC proxy, [MS-KKDCP] section 3.2.5. The connection serves this
// one question, so that nothing of it is left behind.
func (a *ask) https(ctx context.Context) (Reply, error) {
	c, err := a.dial(ctx, HTTPS)
	if err != nil {
		return Reply{}, err
	}
	defer c.close()
	cfg := a.sender.tls.Clone()
	cfg.ServerName = strings.TrimSuffix(a.peer.server.Host, ".")
	secured := tls.Client(c.Conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		return Reply{}, c.fail(fmt.Errorf("TLS: %w", err))
	}
	c.Conn = secured

	wrapped := (&ProxyMessage{Message: a.query.Message, TargetDomain: a.query.Realm}).Append(nil)
	request, err := a.proxyRequest(ctx, wrapped)
	if err != nil {
		return Reply{}, err
	}
	var raw bytes.Buffer
	if err := request.Write(&raw); err != nil {
		return Reply{}, err
	}
	if err := c.send(raw.Bytes()); err != nil {
		return Reply{}, err
	}
	message, err := readProxyResponse(c, request, a.sender.cfg.Options.maxReplySize())
	return c.receive(message, err)
}

func (a *ask) proxyRequest(ctx context.Context, body []byte) (*http.Request, error) {
	target, err := url.Parse(SchemeHTTPS + "://" + a.peer.server.hostPort(DefaultHTTPSPort) + a.peer.server.Path)
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
	request.Close = true
	return request, nil
}

// readProxyResponse reads the HTTP response and takes the Kerberos message, of
// at most limit octets, out of it.
func readProxyResponse(r io.Reader, request *http.Request, limit int) ([]byte, error) {
	reader := bufio.NewReader(io.LimitReader(r, int64(limit)+maxProxyHeader+maxWrapping))
	response, err := http.ReadResponse(reader, request)
	for range maxInterim {
		if err != nil || response.StatusCode/100 != 1 {
			break
		}
		response, err = http.ReadResponse(reader, request)
	}
	if err != nil {
		return nil, fmt.Errorf("no HTTP response: %w", err)
	}
	defer response.Body.Close()
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
		return nil, fmt.Errorf("%w: it has %d octets, max_reply_size is %d", ErrReplyTooBig, len(m.Message), limit)
	}
	return m.Message, nil
}
