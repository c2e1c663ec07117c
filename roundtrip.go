package caddynegotiate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/net/http2"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// errUpstreamName is for an upstream whose address names no service.
var errUpstreamName = errors.New("the upstream's address is no host name: state spn HTTP/host")

// drainLimit bounds how much of a refused answer's body is read so that its
// connection can be used again.
const drainLimit = 64 << 10

// RoundTrip sends the request with a fresh token, and once more if the token is
// refused.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	x := &trip{transport: t, ctx: r.Context()}
	x.vars, x.check = varsOf(x.ctx)
	x.take(r)
	defer x.body.Settle()
	out := x.outcome(r)
	if echoes(r.Method) {
		return x.fail(r, errMethodRefused)
	}
	var err error
	if out.spn, err = x.spn(r); err != nil {
		return x.fail(r, err)
	}
	x.target = negotiate.Target{SPN: out.spn}
	x.grant, err = x.acquire(r)
	t.account.meter().looked(x.grant.Source, err)
	if err != nil {
		return x.fail(r, err)
	}
	out.granted(x.grant)
	response, err := x.attempt()
	if err != nil {
		return x.fail(r, err)
	}
	if response.StatusCode == http.StatusUnauthorized {
		if response, err = x.afterRefusal(response); err != nil {
			return x.fail(r, err)
		}
	}
	return x.finish(r, response)
}

// varsOf gives the request's variables, and tells active health checks from requests of
// clients: nobody has prepared any for them. The server does not tell: it is in the
// context that reverse_proxy was provisioned with, and so in that of its checks.
func varsOf(ctx context.Context) (vars map[string]any, check bool) {
	value := ctx.Value(caddyhttp.VarsCtxKey)
	vars, _ = value.(map[string]any)
	return vars, value == nil
}

// acquire gets what tokens are made of: as ourselves, or as the user. Health
// checks have no user.
func (x *trip) acquire(r *http.Request) (negotiate.Grant, error) {
	t := x.transport
	if !t.enabled() || x.check {
		return t.account.identity.Grant(x.ctx, t.account.settings, &x.target, t.delegation)
	}
	var err error
	if x.target.User, err = t.user(replacerOf(r)); err != nil {
		return negotiate.Grant{}, err
	}
	return t.Impersonation.grant(x.ctx, t.account, &x.target)
}

// send sends the request over connections that are this principal's alone.
func (x *trip) send(r *http.Request) (*http.Response, error) {
	t := x.transport
	if !t.parted {
		return t.HTTPTransport.RoundTrip(r)
	}
	t.SetScheme(r)
	return t.pools.of(x.grant.Ticket.Client()).RoundTrip(r)
}

// trip is one request on its way through the transport.
type trip struct {
	transport *Transport
	ctx       context.Context
	vars      map[string]any // Caddy's, of the request; nil for a health check
	check     bool           // an active health check of reverse_proxy's
	out       *outcome
	target    negotiate.Target
	grant     negotiate.Grant
	request   *http.Request // ours, for the first attempt; a repeat is a copy of it
	body      *negotiate.Replay

	header    http.Header    // of the attempt under way
	ahead     *time.Duration // by whose clock its token goes; nil for the realm's
	token     negotiate.Token
	repeated  bool              // after a refusal
	minted    error             // why there is no token
	bare      bool              // sent without a token, on the connection's standing
	mustToken bool              // never again without one
	status    negotiate.Verdict // of the last answer
}

// take makes the request ours: what a client must not say is taken off it, and
// its body can be sent more than once. Whatever attempt reads that to its end, the
// trailer is cleared then.
func (x *trip) take(r *http.Request) {
	x.request = negotiate.CloneRequest(x.traced(), r)
	negotiate.DropAuthorization(x.request)
	limit := x.transport.replayBuffer()
	empty := r.Body == nil || r.Body == http.NoBody
	// Without a token goes only what can be repeated, come what may.
	x.mustToken = !x.transport.PerConnection || !empty && (r.ContentLength < 0 || r.ContentLength > limit)
	x.body = negotiate.NewReplay(x.request.Body, r.ContentLength, limit)
}

// outcomeVar is where the placeholders' source is kept, one for all attempts at
// a request.
const outcomeVar = "caddy_negotiate.outcome"

// outcome is what the placeholders tell, renewed for this attempt.
func (x *trip) outcome(r *http.Request) *outcome {
	fresh := outcome{identity: x.transport.account.settings.Name}
	if x.check {
		x.out = &fresh
		return x.out
	}
	if out, ok := x.vars[outcomeVar].(*outcome); ok {
		*out = fresh
		x.out = out
		return out
	}
	x.out = &fresh
	replacerOf(r).Map(x.out.lookup)
	if x.vars != nil {
		x.vars[outcomeVar] = x.out
	}
	return x.out
}

// spn names the service for the upstream that was chosen.
func (x *trip) spn(r *http.Request) (negotiate.SPN, error) {
	info, _ := reverseproxy.GetDialInfo(x.ctx)
	spn, err := x.transport.spn.known, error(nil)
	if spn.IsZero() {
		spn, err = x.transport.spn.eval(replacerOf(r), info.Host)
	}
	if err != nil && x.check {
		spn, err = negotiate.HostSPN(info.Host)
	}
	chosen := !x.check && info.Upstream != nil && chosenByClient(info.Upstream.Dial)
	switch {
	case err != nil && !chosen && (x.check || !x.transport.spn.fromRequest):
		return spn, errors.Join(errUpstreamName, err)
	case err == nil && chosen && !x.transport.spn.allow.MatchString(spn.String()):
		return spn, fmt.Errorf("%w: %s, of the upstream %s", errSPNNotAllowed, spn, info.Upstream.Dial)
	}
	return spn, err
}

// chosenByClient tells whether an upstream's address is made of the request, so that
// whoever sent it may say who gets our token.
func chosenByClient(address string) bool {
	if !strings.Contains(address, "{") {
		return false
	}
	names, err := placeholders(address)
	return err != nil || slices.ContainsFunc(names, func(name string) bool { return !fixed(name) })
}

// attempt sends the request once, as far as we are concerned: when a kept
// connection turns out dead, net/http sends it again on another, with a token
// minted for that one.
func (x *trip) attempt() (*http.Response, error) {
	body, err := x.body.Next(x.ctx)
	if err != nil {
		return nil, err
	}
	return x.sendAs(x.request, body)
}

// repeat sends a copy of the request: net/http may still be writing the first.
func (x *trip) repeat(body io.ReadCloser, ahead *time.Duration) (*http.Response, error) {
	out := x.request.WithContext(ownVars(x.request.Context()))
	out.Header = x.request.Header.Clone()
	x.ahead = ahead
	return x.sendAs(out, body)
}

// sendAs sends the request with a token for the connection that it gets.
func (x *trip) sendAs(out *http.Request, body io.ReadCloser) (*http.Response, error) {
	x.minted, x.header = nil, out.Header
	out.Body, out.GetBody = body, x.body.GetBody(x.ctx)
	response, err := x.send(out)
	if err != nil {
		if x.minted != nil {
			return nil, x.minted
		}
		return nil, err
	}
	x.status = x.token.Judge(response.StatusCode, response.Header)
	return response, nil
}

// afterRefusal repeats the request, if the 401 refuses our token and there is any sense in it.
func (x *trip) afterRefusal(response *http.Response) (*http.Response, error) {
	t, v := x.transport, x.status
	if !v.Refused {
		return response, nil
	}
	if !x.bare {
		t.account.meter().refused(v)
	}
	grant, ahead, ok := x.retry(v)
	if !ok {
		x.refused(v)
		return response, nil
	}
	// While a new ticket was on its way, the first attempt may have sent more of the
	// body than is kept.
	body, err := x.body.Next(x.ctx)
	if err != nil {
		x.refused(v)
		return response, nil
	}
	if x.bare {
		x.mustToken = true
		t.habits.wantedToken(t.logger, x.target.SPN)
	} else {
		x.repeated = true
		x.logRefusal(v, "token refused, repeating the request", zapcore.DebugLevel)
	}
	x.grant = grant
	x.out.granted(grant)
	discard(response)
	if response, err = x.repeat(body, ahead); err != nil {
		return nil, err
	}
	if x.status.Refused {
		t.account.meter().refused(x.status)
		x.refused(x.status)
	} else {
		t.account.identity.Confirm(t.account.settings, &x.target, x.grant.Ticket)
	}
	return response, nil
}

// retry gives what a refused request is repeated with, if it can be.
func (x *trip) retry(v negotiate.Verdict) (negotiate.Grant, *time.Duration, bool) {
	t := x.transport
	switch {
	case !x.body.Replayable():
		return negotiate.Grant{}, nil, false
	case x.bare:
		return x.grant, nil, true // no token was refused
	default:
		grant, ahead, ok := t.account.identity.Retry(x.ctx, t.account.settings, &x.target, t.delegation, x.grant, v)
		if ok && !x.target.User.IsZero() {
			ok = t.admitGrant(grant) == nil // the new ticket may name somebody else
		}
		return grant, ahead, ok
	}
}

// discard reads what little is left of an answer, so that its connection can be
// used again, and closes it.
func discard(response *http.Response) {
	_, _ = io.CopyN(io.Discard, response.Body, drainLimit)
	_ = response.Body.Close()
}

// finish looks at the final answer before the client gets it.
func (x *trip) finish(r *http.Request, response *http.Response) (*http.Response, error) {
	t, v := x.transport, x.status
	if t.mutual && !v.Proven && !x.bare {
		missing := t.MutualAuth == "required" && response.StatusCode != http.StatusUnauthorized
		if v.Proof != nil && !v.Refused || missing {
			_ = response.Body.Close()
			return x.fail(r, mutualAuthError(v))
		}
	}
	if x.bare {
		t.habits.served(x.target.SPN)
	}
	if response.StatusCode == http.StatusBadRequest {
		x.warnOfSize()
	}
	negotiate.DropChallenges(response.Header)
	dropTrailers(response)
	if !x.check {
		t.account.meter().answered(x.out, x.repeated)
	}
	return response, nil
}

// dropTrailers keeps challenges out of the trailer too. Only answers that may have
// one are wrapped, and no 101: its body is the connection.
func dropTrailers(response *http.Response) {
	may := response.ContentLength < 0 || response.ProtoMajor > 1 || len(response.Trailer) > 0
	negotiate.DropChallenges(response.Trailer)
	if may && response.StatusCode != http.StatusSwitchingProtocols {
		response.Body = &answerBody{response.Body, response}
	}
}

// answerBody is a body at whose end the answer's trailer is there, announced or not.
type answerBody struct {
	io.ReadCloser
	response *http.Response
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		negotiate.DropChallenges(b.response.Trailer)
	}
	return n, err
}

// refused notes that the upstream's refusal is what the client gets.
func (x *trip) refused(v negotiate.Verdict) {
	if v.Proven {
		return // it knew us: what we want is not ours to have
	}
	x.out.trouble = trouble{Status: http.StatusUnauthorized, Name: errTokenRefused, Remedy: refusalRemedy(v)}
	if v.Error != nil {
		x.out.code = codeText(v.Error.Code())
	}
	x.logRefusal(v, "upstream refuses the token", zapcore.WarnLevel)
}

func (x *trip) logRefusal(v negotiate.Verdict, message string, level zapcore.Level) {
	logRefusal(x.transport.logger, x.out, v, message, level)
}

// fail answers in the upstream's place where it is our own failure. Errors of the
// connection to the upstream, and of a client that went away, are passed on: they
// are reverse_proxy's to judge. So are all of a health check, which they fail.
func (x *trip) fail(r *http.Request, err error) (*http.Response, error) {
	if !x.check {
		x.transport.account.meter().broken(x.ctx)
	}
	if !ours(err) || x.ctx.Err() != nil {
		x.hint(err)
		return nil, err
	}
	x.out.fail(err)
	logFailure(x.transport.logger, x.out, err)
	if x.check {
		return nil, err
	}
	text := x.out.trouble.Name + "\n"
	response := &http.Response{
		StatusCode: x.out.trouble.Status,
		Status:     strconv.Itoa(x.out.trouble.Status) + " " + http.StatusText(x.out.trouble.Status),
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "Cache-Control": {"no-store"}},
		Body:          io.NopCloser(strings.NewReader(text)),
		ContentLength: int64(len(text)),
		Request:       r,
	}
	switch x.out.trouble.Status {
	case http.StatusServiceUnavailable:
		setRetryAfter(response.Header, err)
	case http.StatusMethodNotAllowed:
		response.Header.Set("Allow", allowedMethods)
	}
	return response, nil
}

// hint logs what an error of the upstream's connection means, where only
// experience tells.
func (x *trip) hint(err error) {
	var reset http2.StreamError
	if errors.As(err, &reset) && reset.Code == http2.ErrCodeHTTP11Required {
		x.transport.once.warn(x.transport.logger, "http/1.1 "+x.target.SPN.String(),
			"the upstream does not authenticate over HTTP/2 (HTTP_1_1_REQUIRED); remove versions, or set versions 1.1",
			zap.Stringer("spn", x.target.SPN))
	}
}

// Interface guards
var _ http.RoundTripper = (*Transport)(nil)
