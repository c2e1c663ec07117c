package caddynegotiate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// errand is the requests to one upstream.
type errand struct {
	*check
	site    *site
	grant   negotiate.Grant
	url     *url.URL
	client  *http.Transport
	mutual  bool
	binding bool // tokens are bound to the TLS connection
	pinned  *gss.ChannelBindings
}

// response is what came of one request.
type response struct {
	status    int
	header    http.Header
	encrypted bool
	server    string
	verdict   negotiate.Verdict
	size      int // of the Authorization line
	bound     bool
	err       error
}

// checkUpstream requests a page: without a token, with one, and where that is refused
// in ways that tell causes apart.
func (c *check) checkUpstream(ctx context.Context, w *who, s *site, grant negotiate.Grant) {
	e := &errand{check: c, site: s, grant: grant}
	if !e.prepare() {
		return
	}
	defer e.client.CloseIdleConnections()
	c.progress("requesting %s", e.url)
	bare := e.request(ctx, nil, 0)
	if bare.err != nil {
		e.tellUnreachable(bare.err)
		return
	}
	c.progress("requesting %s with a token", e.url)
	r := e.request(ctx, e.features(e.binding), 0)
	if r.err != nil {
		e.tellUnreachable(r.err)
		return
	}
	e.judge(ctx, bare, r)
}

// prepare finds out where to send requests, and how.
func (e *errand) prepare() bool {
	s := e.site
	base := s.base
	switch {
	case e.check.url != nil && e.check.url.Host != "":
		e.url = e.check.url
	case s.dial != "":
		e.url = &url.URL{Scheme: "http", Path: "/"}
		if s.tls {
			e.url.Scheme = "https"
		}
		address, err := caddy.ParseNetworkAddressWithDefaults(s.dial, "tcp", 80)
		if err != nil {
			e.warn(stepUpstream, fmt.Sprintf("the upstream %s is no address: %v", s.dial, err), "give --url")
			return false
		}
		if e.url.Host = address.JoinHostPort(0); address.IsUnixNetwork() {
			e.url.Host = "localhost"
			base = cloned(base)
			base.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", address.Host)
			}
		}
		if given := e.check.url; given != nil {
			e.url.Path, e.url.RawPath, e.url.RawQuery = given.Path, given.RawPath, given.RawQuery
		}
	case s.handler != nil && len(s.proxies) == 0 && s.raw != nil:
		return false // the configuration's own step says it
	default:
		e.warn(stepUpstream, "the request is not checked: no upstream is known beforehand", "give --url")
		return false
	}
	e.client = cloned(base)
	e.client.DisableKeepAlives = true // each request shows its own connection's ways
	e.client.ResponseHeaderTimeout = max(10*time.Second, e.patience)
	e.mutual = s.request().MutualAuth != "off" && (s.transport != nil || s.request().MutualAuth != "")
	if t := s.transport; t != nil {
		e.binding, e.pinned = t.ChannelBinding != "off", t.pinned
	}
	return true
}

func cloned(base *http.Transport) *http.Transport {
	if base == nil {
		base = &http.Transport{TLSClientConfig: new(tls.Config)}
	}
	return base.Clone()
}

// manner is how a token is made for a request.
type manner struct {
	bind bool
	raw  bool
}

func (e *errand) features(bind bool) *manner {
	return &manner{bind: bind, raw: e.site.request().RawKerberos}
}

// request sends one GET, with a token if there is a manner, and with a header of so
// many bytes besides.
func (e *errand) request(ctx context.Context, m *manner, padding int) response {
	ctx, cancel := context.WithTimeout(ctx, max(10*time.Second, 3*e.patience))
	defer cancel()
	repl := caddy.NewReplacer()
	repl.Set("http.reverse_proxy.upstream.host", e.url.Hostname())
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, repl)
	var (
		r     response
		token negotiate.Token
		made  error
		req   *http.Request
	)
	req, r.err = http.NewRequestWithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			conn, encrypted := info.Conn.(tlsConn)
			r.encrypted = encrypted
			if m == nil {
				return
			}
			var bindings *gss.ChannelBindings
			if encrypted && m.bind {
				bindings = e.bindingsOf(conn)
				r.bound = bindings != nil
			}
			if token, made = e.grant.Mint(ctx, negotiate.Features{Mutual: e.mutual, Raw: m.raw, Bindings: bindings}); made == nil {
				req.Header.Set("Authorization", token.Header)
				r.size = len("Authorization: ") + len(token.Header)
			}
		},
	}), http.MethodGet, e.url.String(), nil)
	if r.err != nil {
		return r
	}
	req.Header.Set("User-Agent", "caddy-kerberos-check")
	if padding > 0 {
		const name = "X-Caddy-Kerberos-Check"
		req.Header.Set(name, strings.Repeat("x", max(1, padding-len(name)-2)))
	}
	answer, err := e.client.RoundTrip(req)
	if r.err = errors.Join(made, err); r.err != nil {
		return r
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, drainLimit)
	r.status, r.header, r.server = answer.StatusCode, answer.Header, answer.Header.Get("Server")
	if m != nil {
		r.verdict = token.Judge(answer.StatusCode, answer.Header)
	}
	return r
}

// bindingsOf gives the channel bindings of a connection, nil if its certificate
// defines none.
func (e *errand) bindingsOf(conn tlsConn) *gss.ChannelBindings {
	if e.pinned != nil {
		return e.pinned
	}
	state := conn.ConnectionState()
	var of negotiate.Bindings
	bindings, err := of.Of(&state)
	if err != nil {
		return nil
	}
	return &bindings
}

// tellUnreachable says why there was no answer.
func (e *errand) tellUnreachable(err error) {
	var (
		unknown *x509.UnknownAuthorityError
		asValue x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
		reset   http2.StreamError
	)
	text := fmt.Sprintf("%s: %v", e.url, err)
	switch {
	case errors.As(err, &unknown), errors.As(err, &asValue), errors.As(err, &name), errors.As(err, &invalid):
		e.fail(stepUpstream, text, "have the upstream's certificate vouched for: tls_trust_pool file CA.pem in the transport, and tls_server_name if it is for another name", causeTLS)
	case errors.As(err, &reset) && reset.Code == http2.ErrCodeHTTP11Required:
		e.fail(stepUpstream, text+": the upstream does not authenticate over HTTP/2", "set versions 1.1 in the transport", causeHTTP2)
	case errors.As(err, &record):
		e.fail(stepUpstream, text, "the upstream does not speak TLS on this port: http:// instead of https://?", causeUnreachable)
	default:
		e.fail(stepUpstream, text, "is the upstream up, is its address right, does a firewall stand between?", causeUnreachable)
	}
}

// judge says what came of the request with a token; bare is that of the one without.
func (e *errand) judge(ctx context.Context, bare, r response) {
	v := r.verdict
	said := fmt.Sprintf("GET %s as %s: %d", e.url, e.grant.Ticket.Client(), r.status)
	switch {
	case v.Refused && v.Proven:
		e.warn(stepUpstream, said+": the upstream knows who we are, and does not let us in here",
			"give the account access (IIS: authorization rules and file permissions; Apache: Require), or check a path that it has access to with --url", causeNotAllowed)
	case v.Refused:
		e.tellRefused(ctx, said, r)
	case e.tooLong(ctx, bare, r):
		e.fail(stepUpstream, fmt.Sprintf("%s: the upstream takes no header of %d bytes, which the token needs; a header of that size that means nothing gets the same answer", said, r.size),
			"raise its limit (Apache: LimitRequestFieldSize 65536; IIS: MaxFieldLength and MaxRequestBytes under HKLM\\System\\CurrentControlSet\\Services\\HTTP\\Parameters; nginx: large_client_header_buffers), "+
				"or take the account out of groups: they are what makes tickets long", causeTokenSize)
	case r.status == http.StatusUnauthorized:
		e.tellNoNegotiate(said, r)
	case bare.status != http.StatusUnauthorized && bare.status == r.status:
		e.warn(stepUpstream, fmt.Sprintf("%s, and %d without a token too: the upstream does not ask who comes", said, bare.status),
			"is it the right path (--url)? IIS: turn Anonymous Authentication off for it. Was the request redirected, or answered by something in between?")
	default:
		e.tellAccepted(said, r)
	}
}

// tellAccepted says how well it went.
func (e *errand) tellAccepted(said string, r response) {
	v := r.verdict
	required := e.site.request().MutualAuth == "required"
	switch {
	case e.mutual && v.Proof != nil:
		e.fail(stepUpstream, fmt.Sprintf("%s, but its proof is wrong: %v", said, v.Proof), diagnose(negotiate.ErrMutualAuth).Remedy, causeNoProof)
		return
	case required && !v.Proven:
		e.fail(stepUpstream, said+", but without the proof that mutual_auth required demands", "something between us and the upstream may take it away; else state mutual_auth on", causeNoProof)
		return
	case r.status >= 500:
		e.warn(stepUpstream, said+": the upstream took the token and failed", "look into its own log")
		return
	}
	notes := []string{said}
	if v.Proven {
		notes = append(notes, "the upstream proved itself")
	}
	if r.bound {
		notes = append(notes, "bound to the TLS connection")
	}
	notes = append(notes, fmt.Sprintf("header of %d bytes", r.size))
	if r.size > apacheLimit*9/10 {
		e.warn(stepUpstream, strings.Join(notes, ", ")+": near or beyond what servers take by default (Apache 8190 bytes, http.sys 16 KiB)",
			"take the account out of groups, or raise the limits of all upstreams before it grows")
		return
	}
	e.ok(stepUpstream, "%s", strings.Join(notes, ", "))
}

// tooLong tells whether the answer is about the header's size: one of that size that
// means nothing gets it too.
func (e *errand) tooLong(ctx context.Context, bare, r response) bool {
	sizes := []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestHeaderFieldsTooLarge}
	if !slices.Contains(sizes, r.status) || r.status == bare.status {
		return false
	}
	again := e.request(ctx, nil, r.size)
	return again.err == nil && again.status == r.status
}

// tellNoNegotiate is for a 401 that does not ask for Negotiate.
func (e *errand) tellNoNegotiate(said string, r response) {
	schemes := negotiate.ReadChallenges(r.header).Schemes
	offers := "nothing"
	if len(schemes) > 0 {
		offers = strings.Join(schemes, ", ")
	}
	e.fail(stepUpstream, fmt.Sprintf("%s: the upstream offers %s, not Negotiate", said, offers),
		"IIS: Authentication > Windows Authentication > Providers: add Negotiate, above NTLM. Apache: AuthType GSSAPI", causeNoNegotiate)
}

// tellRefused finds out why a token is refused.
func (e *errand) tellRefused(ctx context.Context, said string, r response) {
	if cause := r.verdict.Error; cause != nil {
		said += fmt.Sprintf(": %s", cause.Code())
		switch cause.Code() {
		case messages.KRB_AP_ERR_SKEW, messages.KRB_AP_ERR_TKT_NYV, messages.KRB_AP_ERR_TKT_EXPIRED:
			e.fail(stepUpstream, fmt.Sprintf("%s: the upstream's clock is %s", said, offsetText(time.Until(cause.ServerTime()))), refusalRemedy(r.verdict), causeClock)
			return
		case messages.KRB_AP_ERR_NOT_US:
			e.fail(stepUpstream, said+": the upstream has no key of the service that the ticket is for", refusalRemedy(r.verdict), causeUnknownSPN)
			return
		case messages.KRB_AP_ERR_MODIFIED, messages.KRB_AP_ERR_BADKEYVER, messages.KRB_AP_ERR_NOKEY, messages.KRB_AP_ERR_BAD_INTEGRITY:
			e.tellOtherKey(said)
			return
		}
	}
	if r.encrypted && e.tellBinding(ctx, said, r) {
		return
	}
	if r.verdict.Error != nil {
		e.fail(stepUpstream, said+": "+r.verdict.Error.Error(), refusalRemedy(r.verdict))
		return
	}
	e.tellNoReason(said, r)
}

// tellBinding tries it with, or without, channel bindings, and tells if that makes
// the difference.
func (e *errand) tellBinding(ctx context.Context, said string, r response) bool {
	again := e.request(ctx, e.features(!r.bound), 0)
	if again.err != nil || again.verdict.Refused || again.bound == r.bound {
		return false
	}
	if again.bound {
		e.fail(stepUpstream, said+fmt.Sprintf(": the upstream demands channel bindings (Extended Protection): bound to the TLS connection, the same token is accepted (%d)", again.status),
			e.bindingRemedy(), causeBinding)
	} else {
		e.fail(stepUpstream, said+fmt.Sprintf(": the upstream takes no tokens bound to this TLS connection: unbound, the same token is accepted (%d). Something terminates TLS before it, with another certificate", again.status),
			"channel_binding cert FILE with the upstream's own certificate, or channel_binding off", causeBinding)
	}
	return true
}

func (e *errand) bindingRemedy() string {
	if e.site.transport == nil {
		return "use transport negotiate inside reverse_proxy, which binds tokens to the connection, instead of the negotiate directive"
	}
	return "remove channel_binding off; auto is the default. Or, at IIS: Windows Authentication > Advanced Settings > Extended Protection: Accept"
}

// tellOtherKey says that the upstream cannot read a ticket which is minutes old at most.
func (e *errand) tellOtherKey(said string) {
	cred := e.grant.Ticket.Credential()
	_, ticket := ticketText(cred)
	with := "a key"
	if ticket != nil {
		with = keyText(ticket)
	}
	spn := cred.Service.Name.String()
	e.fail(stepUpstream, fmt.Sprintf("%s: the upstream's key is another than the one of %s, with which the KDC encrypted this fresh ticket (%s)", said, spn, with),
		fmt.Sprintf("one of two:\n1. %s stands on another account than the one that the service runs as: AD: setspn -Q %s shows on which; then setspn -D %s OTHER and setspn -S %s SERVICE-ACCOUNT. "+
			"IIS: a pool with an account of its own needs useAppPoolCredentials=true, or the SPN on the computer\n"+
			"2. it is the right account, whose password was changed and the upstream does not know: compare the version above with klist -k on the upstream, "+
			"and export its keytab again (AD: ktpass; MIT: kadmin ktadd), or restart the service with the new password", spn, spn, spn, spn),
		causeOtherAccount, causeServiceKey)
}

// tellNoReason is for a 401 without a Kerberos error, as IIS has it.
func (e *errand) tellNoReason(said string, r response) {
	spn := e.grant.Ticket.Credential().Service.Name.String()
	remedy := fmt.Sprintf("one of three:\n1. %s stands on another account than the service runs as (AD: setspn -Q %s; IIS: useAppPoolCredentials)\n"+
		"2. the service's password was changed and the upstream does not know. With either, the event log of Windows has Kerberos event 4 (KRB_AP_ERR_MODIFIED), Apache's error log says so at LogLevel debug\n"+
		"3. the token is good, and the account may not enter: then Windows' security log has a logon (4624) of %s, and IIS logs 401 with substatus 1 to 3 or 5 instead of 401.1", spn, spn, e.grant.Ticket.Client())
	causes := []string{causeOtherAccount, causeServiceKey, causeNotAllowed}
	if !r.encrypted {
		e.fail(stepUpstream, said+", without a reason", remedy, causes...)
		return
	}
	e.fail(stepUpstream, said+", without a reason; with channel bindings and without", remedy, causes...)
}
