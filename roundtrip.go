package caddynegotiate

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/net/http2"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-negotiate/caddy-negotiate/internal/connections"
	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
)

// RoundTrip sends the request with a new token, and once more if the token is refused.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	x := &roundTrip{minter: minter{transport: t, ctx: r.Context()}}
	x.take(r)
	defer x.attempt.Settle()
	x.takeOutcome(r)
	response, err := x.run(r)
	if err != nil {
		return x.fail(r, err)
	}
	return x.finish(response), nil
}

// roundTrip is the state of one RoundTrip.
type roundTrip struct {
	minter
	healthCheck bool // the request is an active health check of reverse_proxy
	own         outcome
	out         *outcome      // own, or the one of reverse_proxy's first attempt
	request     *http.Request // for the first attempt; a repeat gets a copy
	url         *url.URL      // of the request; the pool replaces it
}

// take copies the request, drops the client's Authorization from the copy, and prepares
// its body for a repeat.
func (x *roundTrip) take(r *http.Request) {
	t := x.transport
	x.request = httpauth.CloneRequest(x.traced(), r)
	x.url = x.request.URL
	httpauth.DropAuthorization(x.request)
	empty := r.Body == nil || r.Body == http.NoBody
	// Only a request that certainly can be repeated is sent without a token.
	x.mustToken = !t.PerConnection || !empty && (r.ContentLength < 0 || r.ContentLength > t.settings.ReplayBuffer)
	x.attempt.Config = &t.attempts
	x.attempt.Body = httpauth.NewReplay(x.request.Body, r.ContentLength, t.settings.ReplayBuffer)
}

// outcomeVar is the variable with the outcome, which all of reverse_proxy's attempts at a
// request share.
const outcomeVar = "caddy_negotiate.outcome"

// takeOutcome resets the outcome that the placeholders show. A health check has none: Caddy
// prepares no variables for it. The server in the context does not tell, because health
// checks have the context that reverse_proxy was provisioned with.
func (x *roundTrip) takeOutcome(r *http.Request) {
	t := x.transport
	x.own = outcome{logger: t.logger, requests: t.identity.Requests(), identity: t.attempts.Initiator.Name()}
	x.out = &x.own
	value := x.ctx.Value(caddyhttp.VarsCtxKey)
	if x.healthCheck = value == nil; x.healthCheck {
		return
	}
	vars, _ := value.(map[string]any)
	if out, ok := vars[outcomeVar].(*outcome); ok {
		*out, x.out = x.own, out
		return
	}
	replacerOf(r).Map(x.out.lookup)
	if vars != nil {
		vars[outcomeVar] = x.out
	}
}

// run returns the upstream's response to the request or to its repeat.
func (x *roundTrip) run(r *http.Request) (*http.Response, error) {
	if err := x.acquire(r); err != nil {
		return nil, err
	}
	content, err := x.attempt.Body.Next(x.ctx)
	if err != nil {
		return nil, err
	}
	response, decision, err := x.send(x.request, content)
	for err == nil && decision.Decision == negotiate.Repeat {
		discard(response)
		response, decision, err = x.send(x.repeatRequest(), decision.Body)
	}
	if err == nil && decision.Decision == negotiate.Reject {
		_ = response.Body.Close()
		err = decision.Err
	}
	return response, err
}

// acquire gets the ticket for the upstream's service, for the request's user if users are
// impersonated. Health checks have no user.
func (x *roundTrip) acquire(r *http.Request) (err error) {
	t := x.transport
	if echoesRequest(r.Method) {
		return negotiate.ErrMethodRefused
	}
	if x.out.spn, err = t.upstreamSPN(r, x.healthCheck); err != nil {
		return err
	}
	x.attempt.Target.SPN, x.attempt.Target.ByClient = x.out.spn, !x.healthCheck && t.settings.SPN.ByClient()
	name := ""
	if t.impersonator != nil && !x.healthCheck {
		x.attempt.Target.User, name, err = t.impersonator.User(x.ctx, replacerOf(r), t.attempts.Initiator.Identity())
	}
	if err == nil {
		err = x.attempt.Acquire(x.ctx)
		x.out.requests.Lookup(x.attempt.Grant().Source, err)
	}
	switch {
	case err == nil:
		x.out.granted(x.attempt.Grant())
	case name != "":
		err = &negotiate.UserError{Name: name, Err: err}
	}
	return err
}

// repeatRequest returns a copy of the request: net/http may still be writing the first.
func (x *roundTrip) repeatRequest() *http.Request {
	out := x.request.WithContext(withOwnVars(x.request.Context()))
	out.Header = x.request.Header.Clone()
	return out
}

// send sends the request, with a token for its connection, and judges the response.
func (x *roundTrip) send(out *http.Request, content io.ReadCloser) (response *http.Response, j negotiate.Judgement, err error) {
	t := x.transport
	out.Body, out.GetBody = content, x.attempt.Body.GetBody(x.ctx)
	route := x.route(out)
	if response, err = x.sendBy(out, route); err != nil {
		return nil, j, err
	}
	verdict := x.attempt.Verdict(response.StatusCode, response.Header)
	if route.Shared && !verdict.Proven {
		x.withhold(response, route)
		route.Shared = false
		if response, err = x.sendBy(x.repeatRequest(), route); err != nil {
			return nil, j, err
		}
		verdict = x.attempt.Verdict(response.StatusCode, response.Header)
	}
	if t.ShareConnections && !route.Shared {
		x.learn(route, verdict)
	}
	verdict.Unbound = x.resumed && verdict.MayBeUnbound() && x.conn.DropSessions()
	j = x.attempt.Decide(x.ctx, response.StatusCode, verdict)
	x.out.judged(&x.attempt, &j)
	if j.Decision == negotiate.Repeat && !x.attempt.HasToken() {
		t.connAuth.refused(t.logger, x.out.spn)
	}
	return response, j, nil
}

// route chooses the connections for the request.
func (x *roundTrip) route(out *http.Request) (route connections.Route) {
	t := x.transport
	if t.pool == nil {
		return route
	}
	info, _ := reverseproxy.GetDialInfo(x.ctx)
	route.Upstream = info.Address
	if t.perPrincipal {
		route.Owner = x.attempt.Grant().Ticket.Client()
	}
	if t.ShareConnections && !x.healthCheck {
		route.Service = x.out.spn.String()
		route.Shared = !x.attempt.Repeated() && sharable(out) && t.pool.Shares(route)
	}
	return route
}

// sharable reports whether the request changes nothing and leaves nothing behind on its
// connection, so that it may use one that users share.
func sharable(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return (r.Body == nil || r.Body == http.NoBody) && r.Header["Upgrade"] == nil
	}
	return false
}

// sendBy sends the request over connections of the route. If a kept connection turns out
// to be closed, net/http sends the request again on another one, with another token.
func (x *roundTrip) sendBy(out *http.Request, route connections.Route) (response *http.Response, err error) {
	t := x.transport
	x.err, x.header, x.shared = nil, out.Header, route.Shared
	if t.pool == nil {
		response, err = t.HTTPTransport.RoundTrip(out)
	} else {
		out.URL = x.url
		t.SetScheme(out)
		response, err = t.pool.RoundTrip(out, route)
	}
	if x.err != nil && err != nil {
		err = x.err
	}
	return response, err
}

// learn records whether the response proves that the upstream has read the token.
func (x *roundTrip) learn(route connections.Route, v negotiate.Verdict) {
	if !v.Proven {
		x.conn.Unproven()
	} else if x.conn.Proven(route.Service) {
		x.transport.logger.Info("users share connections to the upstream, which has proven each token",
			zap.String("upstream", route.Upstream), zap.String("spn", route.Service))
	}
}

// withhold discards a response without a proof that came over a shared connection: it may
// be for another user.
func (x *roundTrip) withhold(response *http.Response, route connections.Route) {
	x.conn.Abort()
	_ = response.Body.Close()
	if x.transport.pool.Withdraw(route) {
		x.transport.logger.Warn("the upstream has not proven a token on a connection that users share; from now on it has connections for each user",
			zap.String("upstream", route.Upstream), zap.String("spn", route.Service), zap.Int("status", response.StatusCode),
			zap.String("remedy", "remove share_connections, unless the configuration or key of the upstream has changed; then load the configuration again"))
	}
}

// discard reads the rest of a short response, so that its connection can be reused, and
// closes it.
func discard(response *http.Response) {
	_, _ = io.CopyN(io.Discard, response.Body, drainLimit)
	_ = response.Body.Close()
}

// finish prepares the response for the client.
func (x *roundTrip) finish(response *http.Response) *http.Response {
	if !x.attempt.HasToken() {
		x.transport.connAuth.accepted(x.out.spn)
	}
	if response.StatusCode == http.StatusBadRequest {
		x.warnOf400()
	}
	httpauth.DropChallenges(response.Header)
	dropTrailers(response)
	if !x.healthCheck {
		x.out.answered(&x.attempt)
	}
	return response
}

// dropTrailers drops challenges from the trailer. It wraps only responses that may have
// one, and no 101: its body is the connection.
func dropTrailers(response *http.Response) {
	may := response.ContentLength < 0 || response.ProtoMajor > 1 || len(response.Trailer) > 0
	httpauth.DropChallenges(response.Trailer)
	if may && response.StatusCode != http.StatusSwitchingProtocols {
		response.Body = &responseBody{response.Body, response}
	}
}

// responseBody drops challenges from the trailer when it is complete, at the end of the
// body.
type responseBody struct {
	io.ReadCloser
	response *http.Response
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		httpauth.DropChallenges(b.response.Trailer)
	}
	return n, err
}

// fail returns a response in place of the upstream's if the plugin failed. Errors of the
// connection to the upstream, and of a client that went away, go to reverse_proxy; in a
// health check every error does, and fails it.
func (x *roundTrip) fail(r *http.Request, err error) (*http.Response, error) {
	if !x.healthCheck {
		x.out.requests.Failed(x.ctx)
	}
	d := diagnosis.Of(err)
	if !d.Local || x.ctx.Err() != nil {
		x.hint(err)
		return nil, err
	}
	x.out.recordError(d, err)
	if x.healthCheck {
		return nil, err
	}
	text := "The proxy could not sign in to the server behind it (" + string(d.Word) + ").\n"
	response := &http.Response{
		StatusCode: d.Status,
		Status:     strconv.Itoa(d.Status) + " " + http.StatusText(d.Status),
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "Cache-Control": {"no-store"}},
		Body:          io.NopCloser(strings.NewReader(text)),
		ContentLength: int64(len(text)),
		Request:       r,
	}
	setErrorHeader(response.Header, d, err)
	return response, nil
}

// hint logs what to do about an error of the upstream's connection, if that is known.
func (x *roundTrip) hint(err error) {
	if reset, ok := errors.AsType[http2.StreamError](err); ok && reset.Code == http2.ErrCodeHTTP11Required {
		x.transport.once.warn(x.transport.logger, "http/1.1 "+x.out.spn.String(),
			"the upstream does not authenticate over HTTP/2 (HTTP_1_1_REQUIRED); remove versions, or set versions 1.1",
			zap.Stringer("spn", x.out.spn))
	}
}
