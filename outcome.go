package caddynegotiate

import (
	"context"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/internal/logging"
	"github.com/caddy-negotiate/caddy-negotiate/internal/metrics"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// outcome is what the placeholders, the log and the metrics show of a request.
type outcome struct {
	logger   *zap.Logger
	requests *metrics.Requests
	identity string
	spn      negotiate.SPN
	ticket   *negotiate.Ticket
	source   cache.Source
	word     diagnosis.Word // empty if nothing failed
	code     string         // the Kerberos error's number, empty if there is none
}

// lookup is a caddy.ReplacerFunc for the placeholders.
func (o *outcome) lookup(key string) (any, bool) {
	switch key {
	case "http.negotiate.identity":
		return o.identity, true
	case "http.negotiate.spn":
		return o.spn.String(), true
	case "http.negotiate.error":
		return string(o.word), true
	case "http.negotiate.error.code":
		return o.code, true
	case "http.negotiate.principal":
		return o.ofTicket(func(t *negotiate.Ticket) string { return t.Credential().Client.String() }), true
	case "http.negotiate.etype":
		return o.ofTicket(func(t *negotiate.Ticket) string { return etypeText(t.EType()) }), true
	case "http.negotiate.source":
		return o.ofTicket(func(t *negotiate.Ticket) string {
			if t.Platform() {
				return "platform"
			}
			return string(o.source)
		}), true
	}
	return nil, false
}

// ofTicket returns a value of the ticket; empty if there is none.
func (o *outcome) ofTicket(value func(*negotiate.Ticket) string) string {
	if o.ticket == nil {
		return ""
	}
	return value(o.ticket)
}

// granted records what tokens are derived from.
func (o *outcome) granted(g negotiate.Grant) { o.ticket, o.source = g.Ticket, g.Source }

// judged records what a response says of the attempt's token.
func (o *outcome) judged(a *negotiate.Attempt, j *negotiate.Judgement) {
	if !j.Refused {
		return
	}
	if a.HasToken() {
		o.requests.Refused(j.Verdict)
	}
	if j.Decision == negotiate.Repeat {
		if a.HasToken() {
			logging.Refusal(o.logger, o.identity, o.spn, o.ticket, j.Verdict, true)
		}
		o.granted(a.Grant())
	}
	if j.NotAuthenticated() {
		o.word = diagnosis.TokenRefused
		if j.Error != nil {
			o.code = codeText(j.Error.Code())
		}
		logging.Refusal(o.logger, o.identity, o.spn, o.ticket, j.Verdict, false)
	}
}

func (o *outcome) recordError(d diagnosis.Diagnosis, err error) {
	o.word = d.Word
	if code, ok := krb5core.Code(err); ok {
		o.code = codeText(code)
	}
	if d.Word != "" {
		logging.Failure(o.logger, o.identity, o.spn, d, err)
	}
}

// answered counts a request that got the upstream's response.
func (o *outcome) answered(a *negotiate.Attempt) {
	o.requests.Answered(o.word == diagnosis.TokenRefused, a.Retried())
}

// etypeText is empty for a type that the platform does not tell.
func etypeText(id enctype.ID) string {
	if id == 0 {
		return ""
	}
	return id.String()
}

func codeText(code messages.ErrorCode) string { return strconv.Itoa(int(code)) }

// setErrorHeader sets the header fields that a failure's status requires.
func setErrorHeader(header http.Header, d diagnosis.Diagnosis, err error) {
	switch {
	case d.Status == http.StatusUnauthorized:
		header.Set("Www-Authenticate", "Negotiate")
	case d.Status == http.StatusServiceUnavailable, d.Word == diagnosis.CredentialsMissing:
		seconds := (negotiate.RetryAfter(err, time.Now()) + time.Second - 1) / time.Second
		header.Set("Retry-After", strconv.Itoa(max(1, int(seconds))))
	case d.Status == http.StatusMethodNotAllowed:
		header.Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
}

// echoesRequest reports whether an upstream's response to the method contains the
// request. The client would see an unused token: RFC 9110, Section 9.3.8 forbids
// credentials in TRACE. TRACK is the same in old versions of IIS.
func echoesRequest(method string) bool {
	return strings.EqualFold(method, "TRACE") || strings.EqualFold(method, "TRACK")
}

// replacerOf returns the request's replacer; a health check gets an empty one.
func replacerOf(r *http.Request) *caddy.Replacer {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		return repl
	}
	return caddy.NewReplacer()
}

// withOwnVars returns a context with a copy of Caddy's variables, for a repeat: a
// connection that net/http began to open for the first attempt, and did not use, may
// still read the original map while reverse_proxy, or the dialing of a network proxy,
// writes it.
func withOwnVars(ctx context.Context) context.Context {
	vars, ok := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, caddyhttp.VarsCtxKey, maps.Clone(vars))
}
