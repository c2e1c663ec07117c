package caddynegotiate

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/internal/connections"
	"github.com/caddy-negotiate/caddy-negotiate/internal/identitypool"
	"github.com/caddy-negotiate/caddy-negotiate/internal/signin"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
)

func init() {
	caddy.RegisterModule(new(Transport))
}

// Transport is the `http` transport of `reverse_proxy` with Negotiate
// authentication. It accepts everything that `http` does, and every attempt at every
// upstream gets a token of its own, for that upstream and that connection. It is the form
// for production: load balancing, retries, channel bindings, mutual authentication and
// active health checks work.
//
// It speaks HTTP/1.1 unless `versions` says otherwise: Windows does not authenticate over
// other versions.
//
// When it cannot authenticate it answers in the upstream's place, with a short
// text and the status that the documentation lists; `handle_response` can change that,
// and passive health checks do not count it against the upstream.
//
// The placeholders are those of the `negotiate` handler.
type Transport struct {
	*reverseproxy.HTTPTransport
	config.Login
	config.Service
	config.Impersonation

	// Whether tokens are bound to the TLS connection (tls-server-end-point, RFC
	// 5929; IIS calls it Extended Protection): `auto` if the upstream's
	// certificate defines a binding, `off`, or `required`. Default: `auto`.
	ChannelBinding string `json:"channel_binding,omitempty"`

	// Path of the certificate that tokens are bound to, PEM or DER, for upstreams
	// behind a TLS terminator.
	ChannelBindingCert string `json:"channel_binding_cert,omitempty"`

	// Send a token on the first request of a connection only, if the upstream
	// binds authentication to connections. Default: `false`.
	PerConnection bool `json:"per_connection,omitempty"`

	logger         *zap.Logger
	identity       *identitypool.Ref
	settings       *config.ServiceSettings
	attempts       negotiate.AttemptConfig
	impersonator   *config.Impersonator // nil if users are not impersonated
	channelBinding config.ChannelBinding
	pinned         *httpauth.Binding
	bindings       httpauth.Bindings
	h2c            bool
	perPrincipal   bool              // client principals do not share connections
	pool           *connections.Pool // nil if HTTP versions beside 1.1 are spoken
	connAuth       connAuthState
	once           warnOnce
	chosenByClient bool // requests determine the dynamic upstreams
}

// writeBufferSize is the default size of write buffers, in bytes: a request with a token
// of http.sys's limit of 16 KiB is sent in one piece.
const writeBufferSize = 20 << 10

// CaddyModule returns the Caddy module information.
func (*Transport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.transport.negotiate",
		New: func() caddy.Module { return newTransport() },
	}
}

func newTransport() *Transport {
	return &Transport{HTTPTransport: new(reverseproxy.HTTPTransport)}
}

// block returns the settings by which config.PlacesOf finds the block in the Caddyfile.
// Those of the http transport are not among them, because reverse_proxy adds to them after
// the block was read.
func (t *Transport) block() []any {
	return []any{"transport", t.Login, t.Service, t.Impersonation, t.ChannelBinding, t.ChannelBindingCert, t.PerConnection}
}

// check checks what the text of the configuration shows.
func (t *Transport) check() error {
	_, bindingErr := config.ParseChannelBinding(t.ChannelBinding, t.ChannelBindingCert)
	platform := config.CheckPlatform(t.Login.Kind(), &t.Service, &t.Impersonation)
	if err := cmp.Or(t.Login.Check(), t.Service.Check(true), t.Impersonation.Check(), platform, bindingErr, t.checkVersions()); err != nil {
		return err
	}
	switch impersonated := t.Impersonation.Enabled(); {
	case t.PerConnection && t.MutualAuth == "required":
		return config.Setting("per_connection", errors.New("mutual_auth required expects a proof in each response, which needs a token in each request; remove one of them"))
	case impersonated && t.Delegate != "":
		return config.Setting("delegate", errors.New("forwards the account's own ticket, but requests are made as the user (impersonate); remove one of them"))
	case impersonated && t.PerConnection:
		return config.Setting("per_connection", errors.New("excludes impersonate: each request of a user carries a token"))
	case t.ShareConnections && t.MutualAuth == "off":
		return config.Setting("share_connections", errors.New("expects a proof in each response; remove mutual_auth off"))
	}
	return nil
}

// checkVersions rejects HTTP versions that cannot work.
func (t *Transport) checkVersions() error {
	for _, v := range t.Versions {
		switch {
		case v == "3":
			return config.Setting("versions", errors.New("negotiate does not work over HTTP/3; use versions 1.1"))
		case v != "1.1" && t.PerConnection:
			return config.Setting("versions", fmt.Errorf("per_connection needs HTTP/1.1, not %s, because there the requests of a connection follow one another; use versions 1.1", v))
		case v != "1.1" && t.Impersonation.Enabled():
			return config.Setting("versions", fmt.Errorf("impersonate needs HTTP/1.1, not %s, because there users do not share connections; use versions 1.1", v))
		}
	}
	return nil
}

// Provision reads the files that the configuration names. It sends nothing to a KDC.
func (t *Transport) Provision(ctx caddy.Context) error {
	t.logger = ctx.Logger()
	places := config.PlacesOf(t.block()...)
	if err := t.check(); err != nil {
		return places.Locate(err)
	}
	t.inspectProxy(ctx, places.Block())
	t.setDefaults()
	if err := t.HTTPTransport.Provision(ctx); err != nil {
		return err
	}
	if slices.Equal(t.Versions, []string{"1.1"}) {
		t.pool = connections.New(t.HTTPTransport.Transport)
	}
	return places.Locate(t.provision(ctx, places.Block()))
}

// userIdleTimeout is how long idle connections of users are kept: between two pages a user
// reads for longer than that.
const userIdleTimeout = caddy.Duration(15 * time.Second)

// setDefaults sets defaults that differ from those of transport http.
func (t *Transport) setDefaults() {
	if len(t.Versions) == 0 {
		t.Versions = []string{"1.1"}
	}
	if !slices.Contains(t.Versions, "1.1") {
		t.logger.Warn("IIS does not authenticate over HTTP/2; if the upstream is one, use versions 1.1", zap.Strings("versions", t.Versions))
	}
	t.h2c = slices.Contains(t.Versions, "h2c")
	if t.WriteBufferSize == 0 {
		t.WriteBufferSize = writeBufferSize
	}
	if t.Impersonation.Enabled() {
		t.boundUserConnections()
	}
}

// boundUserConnections has a busy user keep the connections that the load needs, an idle one
// none, and all of them together not more than user_connections.
func (t *Transport) boundUserConnections() {
	if t.KeepAlive == nil {
		t.KeepAlive = new(reverseproxy.KeepAlive)
	}
	most, k := t.Impersonation.MaxConnections(), t.KeepAlive
	if k.MaxIdleConns == 0 || k.MaxIdleConns > most {
		k.MaxIdleConns = most
	}
	k.MaxIdleConnsPerHost = cmp.Or(k.MaxIdleConnsPerHost, most)
	k.IdleConnTimeout = cmp.Or(k.IdleConnTimeout, userIdleTimeout)
}

// provision resolves the settings of the block at a place.
func (t *Transport) provision(ctx caddy.Context, place string) (err error) {
	if t.settings, err = t.Service.Compile(true); err != nil {
		return err
	}
	if err = t.provisionBindings(); err != nil {
		return err
	}
	if t.identity, err = openIdentity(ctx, &t.Login); err != nil {
		return err
	}
	t.attempts = attemptConfig(t.identity, t.settings)
	identity := t.attempts.Initiator.Identity()
	kind, _ := identity.Origin()
	if err = config.CheckPlatform(kind, &t.Service, &t.Impersonation); err != nil {
		return err
	}
	if t.impersonator, err = t.Impersonation.Compile(t.identity.Realms(), identity.Configured().Realm, kind); err != nil {
		return err
	}
	if t.impersonator != nil {
		t.attempts.Admit = t.impersonator.AdmitTicket
	}
	if t.ByTicket() && !signin.Precedes(ctx) {
		t.logger.Warn("impersonate client_ticket without negotiate_auth: no user is signed in, and each request will be 403",
			zap.String("at", place), zap.String("remedy", "put negotiate_auth before the reverse_proxy, in the same block or around it"))
	}
	// With per_connection a connection is authenticated as one principal, and a
	// credential cache, or the process, may get another one.
	t.perPrincipal = t.impersonator != nil || t.PerConnection && (kind == negotiate.KindCCache || kind == negotiate.KindPlatform)
	return nil
}

// provisionBindings resolves the settings of channel bindings. FIPS 140 does not allow
// them.
func (t *Transport) provisionBindings() (err error) {
	if t.channelBinding, err = config.ParseChannelBinding(t.ChannelBinding, t.ChannelBindingCert); err != nil {
		return err
	}
	if err := config.RequireUnapproved("MD5 (RFC 4121, Section 4.1.1.2)", "set off"); err != nil {
		if t.channelBinding == config.ChannelBindingRequired || t.ChannelBindingCert != "" {
			return config.Setting("channel_binding", err)
		}
		if t.channelBinding != config.ChannelBindingOff {
			t.channelBinding = config.ChannelBindingOff
			t.logger.Info("FIPS 140 is enforced: no channel bindings")
		}
		return nil
	}
	if t.ChannelBindingCert == "" {
		return nil
	}
	pinned, err := httpauth.PinnedBinding(t.ChannelBindingCert)
	if err != nil {
		return config.Setting("channel_binding", err)
	}
	t.pinned = &pinned
	return nil
}

// Cleanup releases the identity and closes idle connections.
func (t *Transport) Cleanup() error {
	t.identity.Release()
	return t.HTTPTransport.Cleanup()
}

// Inspect implements config.Inspector.
func (t *Transport) Inspect() config.Inspection {
	return config.Inspection{
		Login: &t.Login, Service: &t.Service, Impersonation: &t.Impersonation,
		HTTP: t.HTTPTransport.Transport, TLS: t.TLSEnabled(), Versions: t.Versions,
		ChannelBinding: t.channelBinding, Pinned: t.pinned, Place: config.PlacesOf(t.block()...).Block(),
	}
}

// Interface guards
var (
	_ config.Inspector                                 = (*Transport)(nil)
	_ reverseproxy.TLSTransport                        = (*Transport)(nil)
	_ reverseproxy.H2CTransport                        = (*Transport)(nil)
	_ reverseproxy.HealthCheckSchemeOverriderTransport = (*Transport)(nil)
	_ reverseproxy.ProxyProtocolTransport              = (*Transport)(nil)
	_ reverseproxy.RequestHeaderOpsTransport           = (*Transport)(nil)
)
