package command

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
)

// checkUpstream requests a page: without a token, with one, and if that is refused in ways that
// tell the causes apart.
func (c *check) checkUpstream(ctx context.Context, u *use, grant negotiate.Grant) {
	if !u.asTransport && len(u.proxies) == 0 && u.raw != nil && (c.target == nil || c.target.Host == "") {
		return // the step of the configuration reports it
	}
	p, err := c.newUpstreamProbe(u, grant)
	if err != nil {
		c.warn(stepUpstream, err.Error(), "give --url")
		return
	}
	defer p.transport.CloseIdleConnections()
	kind := unboundToken
	if u.asTransport && u.ChannelBinding != config.ChannelBindingOff {
		kind = boundToken
	}
	c.waiting("requesting %s", p.url)
	without := p.request(ctx, noToken, 0)
	if without.err != nil {
		p.reportUnreachable(ctx, without.err)
		return
	}
	c.waiting("requesting %s with a token", p.url)
	with := p.request(ctx, kind, 0)
	if c.platform && p.bound != "" {
		c.ok(stepBinding, "%s", bindingText(p.bound))
	}
	if with.err != nil {
		p.reportUnreachable(ctx, with.err)
	} else {
		p.judge(ctx, without, with)
		p.checkHealth(ctx, kind)
	}
}

// checkHealth sends the active health check of the proxy as the running Caddy does: with a token by
// the transport, and without one behind the directive. While it fails, Caddy answers 503.
func (p *upstreamProbe) checkHealth(ctx context.Context, kind tokenKind) {
	if len(p.use.proxies) == 0 || p.use.proxies[0].HealthChecks == nil || p.target != nil && p.target.Host != "" {
		return
	}
	active := p.use.proxies[0].HealthChecks.Active
	if active == nil || active.Upstream != "" || active.Method != "" && active.Method != http.MethodGet {
		return
	}
	uri, err := url.Parse(cmp.Or(active.URI, active.Path, "/")) //nolint:staticcheck // Caddy reads Path, too, until it is removed
	if err != nil {
		return // Caddy rejects it
	}
	health, sent := *p, "with a token"
	health.url = &url.URL{Scheme: p.url.Scheme, Host: p.url.Host, Path: uri.Path, RawPath: uri.RawPath, RawQuery: uri.RawQuery}
	if active.Port != 0 {
		health.url.Host = net.JoinHostPort(p.url.Hostname(), strconv.Itoa(active.Port))
	}
	if !p.use.asTransport {
		kind, sent = noToken, "without a token, as the negotiate directive does not reach it"
	}
	r := health.request(ctx, kind, 0)
	text := fmt.Sprintf("health check GET %s %s: ", health.url, sent)
	switch {
	case r.err != nil:
		p.fail(stepUpstream, text+r.err.Error(), "while it fails, Caddy answers 503: fix health_uri and health_port, or the upstream", diagnosis.CauseUpstreamUnreachable)
	case active.ExpectStatus > 0 && !caddyhttp.StatusCodeMatches(r.status, active.ExpectStatus),
		active.ExpectStatus == 0 && (r.status < 200 || r.status >= 300):
		remedy := "while it fails, Caddy answers 503: choose a health_uri that the account has access to, or set health_status"
		if !p.use.asTransport {
			remedy = "while it fails, Caddy answers 503: use transport negotiate inside reverse_proxy, which sends health checks with a token, or a health_uri without authentication"
		}
		p.fail(stepUpstream, text+strconv.Itoa(r.status), remedy, diagnosis.CauseConfiguration)
	default:
		p.ok(stepUpstream, "%s%d", text, r.status)
	}
}

// judge reports what the request with a token shows, compared with the one without.
func (p *upstreamProbe) judge(ctx context.Context, without, with response) {
	v := with.verdict
	result := fmt.Sprintf("GET %s as %s: %d", p.url, p.grant.Ticket.Client(), with.status)
	switch {
	case v.Refused && v.Proven:
		p.warn(stepUpstream, result+": the upstream authenticated the account and denies it access here",
			"give the account access (IIS: authorization rules and file permissions; Apache: Require), or check a path that it has access to with --url", diagnosis.CauseUserMayNotEnter)
	case v.Refused:
		p.reportRefusal(ctx, result, with)
	case p.tooLong(ctx, without, with):
		p.fail(stepUpstream, fmt.Sprintf("%s: the upstream does not accept a header of %d bytes, which the token needs; a meaningless header of that size gets the same answer", result, with.size),
			"raise its limit (Apache: LimitRequestFieldSize 65536; IIS: MaxFieldLength and MaxRequestBytes under HKLM\\System\\CurrentControlSet\\Services\\HTTP\\Parameters; nginx: large_client_header_buffers), "+
				"or remove the account from groups: they make tokens long", diagnosis.CauseTokenTooLong)
	case with.status == http.StatusUnauthorized:
		p.reportNoNegotiate(result, with)
	case without.status != http.StatusUnauthorized && without.status == with.status:
		p.warn(stepUpstream, fmt.Sprintf("%s, and %d without a token too: the upstream does not require authentication", result, without.status),
			"is it the right path (--url)? IIS: turn Anonymous Authentication off for it. Was the request redirected, or answered by something in between?")
	default:
		p.reportAccepted(result, with)
	}
}

// headerLimit is Apache's default limit of a header line, in bytes.
const headerLimit = 8190

// reportAccepted reports what an accepted token still leaves to be desired.
func (p *upstreamProbe) reportAccepted(result string, r response) {
	v := r.verdict
	switch {
	case p.use.service.MutualAuth != negotiate.MutualAuthOff && v.Proof != nil:
		p.failAs(stepUpstream, fmt.Sprintf("%s, but its proof is wrong: %v", result, v.Proof), diagnosis.Of(negotiate.ErrMutualAuth))
		return
	case p.use.service.MutualAuth == negotiate.MutualAuthRequired && !v.Proven:
		p.fail(stepUpstream, result+", but without the proof that mutual_auth required demands",
			"something between Caddy and the upstream may remove it; otherwise set mutual_auth on", diagnosis.CauseNoMutualAuth)
		return
	case r.status >= 500:
		p.warn(stepUpstream, result+": the upstream accepted the token and failed", "see its own log")
		return
	}
	notes := []string{result}
	if v.Proven {
		notes = append(notes, "the upstream proved its identity")
	}
	if r.bound {
		notes = append(notes, "bound to the TLS connection")
	}
	notes = append(notes, fmt.Sprintf("header of %d bytes", r.size))
	if r.size > headerLimit*9/10 {
		p.warn(stepUpstream, strings.Join(notes, ", ")+": near or beyond what servers accept by default (Apache 8190 bytes, http.sys 16 KiB)",
			"remove the account from groups, or raise the limits of all upstreams before it grows")
		return
	}
	p.ok(stepUpstream, "%s", strings.Join(notes, ", "))
}

// tooLong reports whether the answer is about the header's size: a meaningless header of that size
// gets it too.
func (p *upstreamProbe) tooLong(ctx context.Context, without, with response) bool {
	sizes := []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestHeaderFieldsTooLarge}
	if !slices.Contains(sizes, with.status) || with.status == without.status {
		return false
	}
	again := p.request(ctx, noToken, with.size)
	return again.err == nil && again.status == with.status
}

// reportNoNegotiate is for a 401 without a challenge for Negotiate.
func (p *upstreamProbe) reportNoNegotiate(result string, r response) {
	offers := "nothing"
	if schemes := httpauth.ReadChallenges(r.header).Schemes; len(schemes) > 0 {
		offers = strings.Join(schemes, ", ")
	}
	p.fail(stepUpstream, fmt.Sprintf("%s: the upstream offers %s, not Negotiate", result, offers),
		"IIS: Authentication > Windows Authentication > Providers: add Negotiate, above NTLM. Apache: AuthType GSSAPI", diagnosis.CauseNoNegotiate)
}

// reportUnreachable reports why there was no response.
func (p *upstreamProbe) reportUnreachable(ctx context.Context, err error) {
	text := fmt.Sprintf("%s: %v", p.url, err)
	reset, isReset := errors.AsType[http2.StreamError](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, notTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case untrusted:
		p.fail(stepUpstream, text, "trust the CA that issued the upstream's certificate: tls_trust_pool file CA.pem in the transport, and tls_server_name if it is for another name",
			diagnosis.CauseUpstreamCertificate)
	case isReset && reset.Code == http2.ErrCodeHTTP11Required:
		p.fail(stepUpstream, text+": the upstream does not authenticate over HTTP/2", "set versions 1.1 in the transport", diagnosis.CauseHTTP2)
	case notTLS:
		p.fail(stepUpstream, text, "the upstream does not use TLS on this port: http:// instead of https://?", diagnosis.CauseUpstreamUnreachable)
	case p.unknownHost(ctx):
		p.fail(stepUpstream, text, p.url.Hostname()+" is not in the DNS: is the upstream's name right?", diagnosis.CauseUpstreamUnreachable)
	default:
		p.fail(stepUpstream, text, "is the upstream up, is its address right, is a firewall blocking it?", diagnosis.CauseUpstreamUnreachable)
	}
}

// unknownHost looks the upstream's name up again: Caddy's error of a connection that was not made
// hides its cause.
func (p *upstreamProbe) unknownHost(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*p.patience)
	defer cancel()
	_, err := p.use.resolver().LookupHost(ctx, p.url.Hostname())
	return notFound(err)
}

// reportRefusal finds out why a token is refused.
func (p *upstreamProbe) reportRefusal(ctx context.Context, result string, r response) {
	refusal, spn := r.verdict.Error, p.grant.Ticket.Credential().Service.Name.String()
	if refusal != nil {
		result += fmt.Sprintf(": %s", refusal.Code())
		switch refusal.Code() {
		case messages.KRB_AP_ERR_SKEW, messages.KRB_AP_ERR_TKT_NYV, messages.KRB_AP_ERR_TKT_EXPIRED:
			p.reportClock(ctx, result, r, time.Until(refusal.ServerTime()))
			return
		case messages.KRB_AP_ERR_NOT_US:
			p.failAs(stepUpstream, result+": the upstream has no key of the service that the ticket is for", diagnosis.OfRefusal(r.verdict))
			return
		case messages.KRB_AP_ERR_MODIFIED, messages.KRB_AP_ERR_BADKEYVER, messages.KRB_AP_ERR_NOKEY, messages.KRB_AP_ERR_BAD_INTEGRITY:
			// The KDC has just issued the ticket that the upstream cannot decrypt.
			p.failAs(stepUpstream, fmt.Sprintf("%s: the upstream's key does not match the one of %s that the KDC used for this new ticket (%s)",
				result, spn, keyText(p.grant.Ticket)), diagnosis.ServiceKey(spn))
			return
		}
	}
	if r.encrypted && p.reportBinding(ctx, result, r) {
		return
	}
	if refusal != nil {
		p.failAs(stepUpstream, result+": "+refusal.Error(), diagnosis.OfRefusal(r.verdict))
		return
	}
	result += ", without a reason"
	if r.encrypted {
		result += "; with channel bindings and without"
	}
	p.failAs(stepUpstream, result, diagnosis.NoReason(spn, p.grant.Ticket.Client()))
}

// reportClock tries the upstream's own time, as the running Caddy does.
func (p *upstreamProbe) reportClock(ctx context.Context, result string, r response, offset time.Duration) {
	d := diagnosis.OfRefusal(r.verdict)
	text := fmt.Sprintf("%s: the upstream's clock is %s", result, offsetText(offset))
	kind := unboundToken
	if r.bound {
		kind = boundToken
	}
	p.offset = &offset
	if again := p.request(ctx, kind, 0); again.err != nil || again.verdict.Refused {
		p.failAs(stepUpstream, text, d)
		return
	}
	p.warn(stepUpstream, text+". Caddy adjusts: with the upstream's time the token is accepted; the first request is sent twice", d.Remedy, d.Causes...)
}

// reportBinding repeats the request with channel bindings if it had none, else without, and
// reports whether that makes the difference.
func (p *upstreamProbe) reportBinding(ctx context.Context, result string, r response) bool {
	kind := boundToken
	if r.bound {
		kind = unboundToken
	}
	again := p.request(ctx, kind, 0)
	if again.err != nil || again.verdict.Refused || again.bound == r.bound {
		return false
	}
	if !again.bound {
		p.fail(stepUpstream, result+fmt.Sprintf(": the upstream does not accept tokens bound to this TLS connection: unbound, the same token is accepted (%d). Something terminates TLS before it, with another certificate", again.status),
			"channel_binding cert FILE with the upstream's own certificate, or channel_binding off", diagnosis.CauseChannelBinding)
		return true
	}
	remedy := "use transport negotiate inside reverse_proxy, which binds tokens to the connection, instead of the negotiate directive"
	if p.use.asTransport {
		remedy = "remove channel_binding off; auto is the default. Or, at IIS: Windows Authentication > Advanced Settings > Extended Protection: Accept"
	}
	p.fail(stepUpstream, result+fmt.Sprintf(": the upstream requires channel bindings (Extended Protection): bound to the TLS connection, the same token is accepted (%d)", again.status),
		remedy, diagnosis.CauseChannelBinding)
	return true
}
