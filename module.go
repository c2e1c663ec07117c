// Package caddynegotiate is a Caddy plugin that authenticates to upstreams by
// Negotiate (SPNEGO with Kerberos V5, RFC 4559). With Caddy in front of IIS and other
// Kerberized services, clients that do not speak Kerberos can use them.
//
// It has three modules: [Handler], the `negotiate` directive, authenticates requests
// before any transport; [Transport], `transport negotiate` of reverse_proxy, does so for
// each connection; [App], the `kerberos` global option, has the realms and identities
// that sites share.
//
// Begin with ServeHTTP in module.go or RoundTrip in roundtrip.go. Both drive a
// negotiate.Attempt. Kerberos is in the packages negotiate, krb5core and cache, and what
// the configuration means in internal/config.
package caddynegotiate

import (
	"cmp"
	"net/http"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/internal/identitypool"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler authenticates a request to the upstream that `reverse_proxy` sends it
// to: it sets `Authorization: Negotiate` with a new Kerberos token, and repeats the
// request once if the upstream refuses the token. A client's own Authorization is
// dropped, and so are the upstream's challenges.
//
// Only a `reverse_proxy` with the `http` transport sends the token, to the upstream alone
// and not in the routes of `handle_response`. It uses HTTP/1.1 for that, and connections
// that no other request uses. A configuration with other transports behind the handler is
// rejected: use `transport negotiate`.
//
// The token is made before `reverse_proxy` chooses an upstream. For several upstreams,
// retries, channel bindings or active health checks, use `transport negotiate`.
//
// Placeholders set:
//
// Placeholder | Description
// ------------|-------------
// `{http.negotiate.identity}` | The identity's name, or its principal
// `{http.negotiate.principal}` | The client principal that the upstream sees
// `{http.negotiate.spn}` | The service principal
// `{http.negotiate.etype}` | The encryption type of the session key
// `{http.negotiate.source}` | Where the ticket came from: `cache`, `kdc`, `storage` or `platform`
// `{http.negotiate.error}` | One word for what failed; empty if nothing did
// `{http.negotiate.error.code}` | The number of the Kerberos error, if there was one
type Handler struct {
	config.Login
	config.Service

	logger   *zap.Logger
	identity *identitypool.Ref
	settings *config.ServiceSettings
	attempts negotiate.AttemptConfig
	once     warnOnce
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.negotiate", New: func() caddy.Module { return new(Handler) }}
}

// block returns the settings by which config.PlacesOf finds the block in the Caddyfile.
func (h *Handler) block() []any { return []any{"negotiate", h.Login, h.Service} }

// check checks what the text of the configuration shows.
func (h *Handler) check() error {
	return cmp.Or(h.Login.Check(), h.Service.Check(false), config.CheckPlatform(h.Login.Kind(), &h.Service, nil))
}

// Provision reads the files that the configuration names. It sends nothing to a KDC.
func (h *Handler) Provision(ctx caddy.Context) (err error) {
	h.logger = ctx.Logger()
	places := config.PlacesOf(h.block()...)
	if err := h.check(); err != nil {
		return places.Locate(err)
	}
	if h.settings, err = h.Service.Compile(false); err != nil {
		return places.Locate(err)
	}
	if err = h.place(ctx, places.Block()); err != nil {
		return places.Locate(err)
	}
	if h.identity, err = openIdentity(ctx, &h.Login); err != nil {
		return places.Locate(err)
	}
	h.attempts = attemptConfig(h.identity, h.settings)
	kind, _ := h.attempts.Initiator.Identity().Origin()
	return places.Locate(config.CheckPlatform(kind, &h.Service, nil))
}

// attemptConfig returns what the attempts of a block have in common.
func attemptConfig(identity *identitypool.Ref, s *config.ServiceSettings) negotiate.AttemptConfig {
	return negotiate.AttemptConfig{
		Initiator:  identity.Initiator(),
		Delegation: s.Delegation, MutualAuth: s.MutualAuth, Raw: s.RawKerberos,
	}
}

// Cleanup releases the identity.
func (h *Handler) Cleanup() error {
	h.identity.Release()
	return nil
}

// Inspect implements config.Inspector.
func (h *Handler) Inspect() config.Inspection {
	return config.Inspection{
		Login: &h.Login, Service: &h.Service, ChannelBinding: config.ChannelBindingOff,
		Place: config.PlacesOf(h.block()...).Block(),
	}
}

// ServeHTTP authenticates the request and passes it on.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.ContentLength == 0 { // reverse_proxy sends no body then; Caddy's timeouts wrap an empty one, too
		r.Body = http.NoBody
	}
	httpauth.DropAuthorization(r)
	repl := replacerOf(r)
	x := &handlerRequest{ctx: r.Context()}
	x.outcome = outcome{logger: h.logger, requests: h.identity.Requests(), identity: h.attempts.Initiator.Name()}
	repl.Map(x.lookup)

	if echoesRequest(r.Method) {
		return x.fail(w, negotiate.ErrMethodRefused)
	}
	var err error
	if x.spn, err = h.settings.SPN.Eval(repl, ""); err != nil {
		return x.fail(w, err)
	}
	x.attempt.Config, x.attempt.Target.SPN = &h.attempts, x.spn
	x.attempt.Target.ByClient = h.settings.SPN.ByClient()
	x.attempt.Body = httpauth.NewReplay(r.Body, r.ContentLength, h.settings.ReplayBuffer)
	defer x.attempt.Settle()
	err = x.attempt.Acquire(x.ctx)
	x.requests.Lookup(x.attempt.Grant().Source, err)
	if err != nil {
		return x.fail(w, err)
	}
	x.granted(x.attempt.Grant())
	if err := x.serve(w, r, next); err != nil {
		x.requests.Failed(x.ctx)
		return err
	}
	if x.failed != nil {
		return x.fail(w, x.failed)
	}
	x.answered(&x.attempt)
	if x.sent {
		return nil
	}
	if _, proxied := repl.Get("http.reverse_proxy.upstream.hostport"); proxied {
		h.once.warn(h.logger, "not sent", "a request after negotiate went through a reverse_proxy that sends no token",
			zap.Stringer("spn", x.spn), zap.String("remedy", "use transport negotiate in that reverse_proxy"))
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ config.Inspector            = (*Handler)(nil)
)
