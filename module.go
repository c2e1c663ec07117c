// Package caddynegotiate is a Caddy plugin that authenticates to upstreams by
// Negotiate (SPNEGO with Kerberos V5, RFC 4559): Caddy stands in front of IIS and
// other Kerberized services, so that clients which do not speak Kerberos reach
// them.
//
// The `negotiate` directive ([Handler]) puts a fresh Authorization on each
// request. The `kerberos` global option ([App]) holds realms and identities that
// sites share. Kerberos itself is in the packages below: negotiate, krb5core,
// cache.
package caddynegotiate

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler authenticates a request to the upstream that `reverse_proxy` sends it
// to: it puts `Authorization: Negotiate` with a fresh Kerberos token on it, and
// repeats the request once if the upstream refuses the token. A client's own
// Authorization never passes, nor do the upstream's challenges.
//
// The token is made before `reverse_proxy` chooses an upstream. Where there are
// several upstreams, retries, channel bindings or active health checks, use
// `transport negotiate`.
//
// Placeholders set:
//
// Placeholder | Description
// ------------|-------------
// `{http.negotiate.identity}` | The identity's name, or its principal
// `{http.negotiate.principal}` | Who the upstream sees
// `{http.negotiate.spn}` | The service principal
// `{http.negotiate.etype}` | The encryption type of the session key
// `{http.negotiate.source}` | Where the ticket came from: `cache`, `kdc` or `storage`
// `{http.negotiate.error}` | What went wrong, in one word; empty if nothing did
// `{http.negotiate.error.code}` | The number of the Kerberos error, if there was one
type Handler struct {
	Login
	Request

	logger     *zap.Logger
	mutual     bool
	delegation negotiate.Delegation
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.negotiate", New: func() caddy.Module { return new(Handler) }}
}

// Provision reads the files that the configuration names. It talks to nobody.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	if err := h.Request.provision(false); err != nil {
		return err
	}
	h.mutual = h.MutualAuth == "on" || h.MutualAuth == "required"
	h.delegation = delegationOf(h.Delegate)
	return h.Login.provision(ctx)
}

// Cleanup releases the identity.
func (h *Handler) Cleanup() error {
	h.Login.cleanup()
	return nil
}

func delegationOf(setting string) negotiate.Delegation {
	switch setting {
	case "marked":
		return negotiate.DelegateMarked
	case "always":
		return negotiate.DelegateAlways
	default:
		return negotiate.DelegateNever
	}
}

// outcome is what the placeholders and the log tell of a request.
type outcome struct {
	identity string
	spn      negotiate.SPN
	ticket   *negotiate.Ticket
	source   cache.Source
	trouble  trouble
	code     string
}

// granted notes what tokens are made of.
func (o *outcome) granted(g negotiate.Grant) { o.ticket, o.source = g.Ticket, g.Source }

// lookup is a caddy.ReplacerFunc.
func (o *outcome) lookup(key string) (any, bool) {
	switch key {
	case "http.negotiate.identity":
		return o.identity, true
	case "http.negotiate.spn":
		return o.spn.String(), true
	case "http.negotiate.error":
		return o.trouble.Name, true
	case "http.negotiate.error.code":
		return o.code, true
	}
	if o.ticket == nil {
		return nil, false
	}
	switch key {
	case "http.negotiate.principal":
		return o.ticket.Credential().Client.String(), true
	case "http.negotiate.etype":
		return o.ticket.Credential().Key.EType().String(), true
	case "http.negotiate.source":
		return string(o.source), true
	}
	return nil, false
}

// fail notes an error.
func (o *outcome) fail(err error) {
	o.trouble = diagnose(err)
	if code, ok := krb5core.Code(err); ok {
		o.code = codeText(code)
	}
}

// ServeHTTP authenticates the request and passes it on.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	negotiate.DropAuthorization(r)
	repl := replacerOf(r)
	x := &handling{handler: h, ctx: r.Context(), meter: h.account.meter()}
	out := &x.out
	out.identity = h.account.settings.Name
	repl.Map(out.lookup)

	if echoes(r.Method) {
		w.Header().Set("Allow", allowedMethods)
		return h.fail(w, out, errMethodRefused)
	}
	var err error
	if out.spn, err = h.spn.eval(repl, ""); err != nil {
		return h.fail(w, out, err)
	}
	x.target = negotiate.Target{SPN: out.spn}
	x.body = negotiate.NewReplay(r.Body, r.ContentLength, h.replayBuffer())
	defer x.body.Settle()
	x.grant, err = h.account.identity.Grant(r.Context(), h.account.settings, &x.target, h.delegation)
	x.meter.looked(x.grant.Source, err)
	if err != nil {
		return h.fail(w, out, err)
	}
	out.granted(x.grant)
	if err := x.serve(w, r, next); err != nil {
		x.meter.broken(r.Context())
		return err
	}
	if x.failed != nil {
		return h.fail(w, out, x.failed)
	}
	x.meter.answered(out, x.repeat != nil)
	return nil
}

// fail makes of an error what `handle_errors` gets.
func (h *Handler) fail(w http.ResponseWriter, out *outcome, err error) error {
	out.fail(err)
	if out.trouble.Name != "" {
		h.account.meter().failed.Inc()
		logFailure(h.logger, out, err)
	}
	if out.trouble.Status == http.StatusServiceUnavailable {
		setRetryAfter(w.Header(), err)
	}
	return caddyhttp.Error(out.trouble.Status, errors.New(out.trouble.Name))
}

// setRetryAfter says when it makes sense to ask again.
func setRetryAfter(header http.Header, err error) {
	seconds := (negotiate.RetryAfter(err, time.Now()) + time.Second - 1) / time.Second
	header.Set("Retry-After", strconv.Itoa(max(1, int(seconds))))
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
