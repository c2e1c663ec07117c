package caddynegotiate

import (
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func init() {
	caddy.RegisterModule(new(Transport))
}

// Transport is the `http` transport of `reverse_proxy` with Negotiate
// authentication: everything of `http` is accepted unchanged, and every attempt
// at every upstream gets a token of its own, made for that upstream and for the
// connection at hand. It is the form for production: load balancing, retries,
// channel bindings, mutual authentication and active health checks work.
//
// It speaks HTTP/1.1 unless `versions` says otherwise: Windows authenticates over
// nothing else.
//
// When it cannot authenticate it answers in the upstream's place, with a short
// text and the status that the documentation lists; `handle_response` can shape that,
// and passive health checks do not blame the upstream for it.
//
// The placeholders are those of the `negotiate` handler.
type Transport struct {
	*reverseproxy.HTTPTransport
	Login
	Request
	Impersonation

	// Whether tokens are bound to the TLS connection (tls-server-end-point, RFC
	// 5929; IIS calls it Extended Protection): `auto` where the upstream's
	// certificate defines a binding, `off`, or `required`. Default: `auto`.
	ChannelBinding string `json:"channel_binding,omitempty"`

	// Path of the certificate that tokens are bound to, PEM or DER, where a TLS
	// terminator stands before the upstream.
	ChannelBindingCert string `json:"channel_binding_cert,omitempty"`

	// Send a token on the first request of a connection only, if the upstream
	// binds authentication to connections. Default: `false`.
	PerConnection bool `json:"per_connection,omitempty"`

	logger     *zap.Logger
	mutual     bool
	parted     bool // principals have connections of their own
	delegation negotiate.Delegation
	pinned     *gss.ChannelBindings
	bindings   negotiate.Bindings
	once       warnings
	habits     habits
	pools      pools
}

// tokenWriteBuffer is the default write buffer, in bytes: a request with a token
// of http.sys's limit of 16 KiB goes out in one piece.
const tokenWriteBuffer = 20 << 10

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

// Provision reads the files that the configuration names. It talks to nobody.
func (t *Transport) Provision(ctx caddy.Context) error {
	t.logger = ctx.Logger()
	if err := t.Request.provision(true); err != nil {
		return err
	}
	if err := t.checkVersions(); err != nil {
		return err
	}
	if err := t.provisionBindings(); err != nil {
		return err
	}
	if t.PerConnection && t.MutualAuth == "required" {
		return t.Request.Origin.wrap("per_connection", errors.New("mutual_auth required wants a proof with each answer, which needs a token in each request; drop one of them"))
	}
	t.mutual = t.MutualAuth != "off"
	t.delegation = delegationOf(t.Delegate)
	if t.WriteBufferSize == 0 {
		t.WriteBufferSize = tokenWriteBuffer
	}
	if err := t.HTTPTransport.Provision(ctx); err != nil {
		return err
	}
	t.pools.base = t.HTTPTransport.Transport
	if err := t.Login.provision(ctx); err != nil {
		return err
	}
	// With per_connection a connection stands for who came first on it, and a
	// credential cache may come to belong to somebody else.
	kind, _ := t.account.identity.Origin()
	t.pools.whole = !t.enabled()
	t.parted = t.enabled() || t.PerConnection && kind == negotiate.KindCCache
	return t.provisionImpersonation()
}

// provisionImpersonation refuses what does not go together with acting for users.
func (t *Transport) provisionImpersonation() error {
	origin := t.Request.Origin
	if t.enabled() {
		switch {
		case t.Delegate != "":
			return origin.wrap("delegate", errors.New("hands over our own ticket, but requests are made as the user (impersonate); drop one of them"))
		case t.PerConnection:
			return origin.wrap("per_connection", errors.New("excludes impersonate: each of a user's requests brings its token"))
		case slices.ContainsFunc(t.Versions, func(v string) bool { return v != "1.1" }):
			return fmt.Errorf("versions %v: impersonate needs HTTP/1.1, where users' connections can be kept apart; use versions 1.1", t.Versions)
		}
	}
	return t.Impersonation.provision(origin, t.account.known, t.account.identity.Principal().Realm)
}

// checkVersions sets HTTP/1.1 where nothing is stated, and refuses what cannot work.
func (t *Transport) checkVersions() error {
	if len(t.Versions) == 0 {
		t.Versions = []string{"1.1"}
		return nil
	}
	for _, v := range t.Versions {
		if v == "3" {
			return errors.New("versions 3: Negotiate does not work over HTTP/3; use versions 1.1")
		}
		if t.PerConnection && v != "1.1" {
			return fmt.Errorf("versions %s: per_connection needs HTTP/1.1, where requests of a connection follow one another; use versions 1.1", v)
		}
	}
	if !slices.Contains(t.Versions, "1.1") {
		t.logger.Warn("IIS does not authenticate over HTTP/2; if the upstream is one, use versions 1.1", zap.Strings("versions", t.Versions))
	}
	return nil
}

func (t *Transport) provisionBindings() error {
	switch t.ChannelBinding {
	case "", "auto", "off", "required":
	default:
		return t.Request.Origin.wrap("channel_binding", fmt.Errorf("%q is none of auto, off, required; for a certificate write cert FILE", t.ChannelBinding))
	}
	if err := refuseUnapproved("MD5 (RFC 4121 4.1.1.2)", "state off"); err != nil {
		if t.ChannelBinding == "required" || t.ChannelBindingCert != "" {
			return t.Request.Origin.wrap("channel_binding", err)
		}
		if t.ChannelBinding != "off" {
			t.ChannelBinding = "off"
			t.logger.Info("FIPS 140 is enforced: no channel bindings")
		}
		return nil
	}
	if t.ChannelBindingCert == "" {
		return nil
	}
	if t.ChannelBinding == "off" {
		return t.Request.Origin.wrap("channel_binding", errors.New("off and a certificate exclude each other"))
	}
	pinned, err := negotiate.PinnedBindings(t.ChannelBindingCert)
	if err != nil {
		return t.Request.Origin.wrap("channel_binding", err)
	}
	t.pinned = &pinned
	return nil
}

// Cleanup releases the identity and closes idle connections.
func (t *Transport) Cleanup() error {
	t.Login.cleanup()
	t.pools.close()
	return t.HTTPTransport.Cleanup()
}

// UnmarshalCaddyfile reads the transport. Syntax:
//
//	transport negotiate [<identity>] {
//		# all of the negotiate directive's, with spn optional, and:
//		channel_binding  auto|off|required|cert <file>
//		per_connection   [on|off]
//		impersonate      <placeholder>
//		trust_header     <header>
//		user_realm       <REALM>
//		allow_users      <glob>...
//		deny_users       <glob>...
//
//		# all of transport http's
//	}
func (t *Transport) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the transport's name
	name := d.Token()
	var others []caddyfile.Token
	if err := unmarshalBlock(d, &t.Login, &t.Request, t.ownBlock().with(t.Impersonation.block()), &others); err != nil {
		return err
	}
	if len(others) == 0 {
		return nil
	}
	return t.HTTPTransport.UnmarshalCaddyfile(caddyfile.NewDispenser(enclosed(name, others)))
}

// enclosed makes a block of its own of subdirectives. Its braces are no copies of the
// tokens beside them: those may be quoted, and a quoted brace is none to Caddy.
func enclosed(name caddyfile.Token, subdirectives []caddyfile.Token) []caddyfile.Token {
	last := subdirectives[len(subdirectives)-1]
	return slices.Concat([]caddyfile.Token{
		{File: name.File, Line: name.Line, Text: name.Text},
		{File: name.File, Line: name.Line, Text: "{"},
	}, subdirectives, []caddyfile.Token{
		{File: last.File, Line: last.Line + last.NumLineBreaks() + 1, Text: "}"},
	})
}

// ownBlock gives the readers of the subdirectives that only the transport has.
func (t *Transport) ownBlock() block {
	return block{
		"channel_binding": func(d *caddyfile.Dispenser) error {
			switch args := d.RemainingArgs(); {
			case len(args) == 1 && slices.Contains([]string{"auto", "off", "required"}, args[0]):
				t.ChannelBinding = args[0]
			case len(args) == 2 && args[0] == "cert":
				t.ChannelBindingCert = args[1]
			default:
				return d.Err("channel_binding takes auto, off, required, or cert FILE")
			}
			return nil
		},
		"per_connection": readSwitch(func(on bool) { t.PerConnection = on }),
	}
}

// Interface guards
var (
	_ caddy.Provisioner                                = (*Transport)(nil)
	_ caddy.CleanerUpper                               = (*Transport)(nil)
	_ caddyfile.Unmarshaler                            = (*Transport)(nil)
	_ reverseproxy.TLSTransport                        = (*Transport)(nil)
	_ reverseproxy.H2CTransport                        = (*Transport)(nil)
	_ reverseproxy.HealthCheckSchemeOverriderTransport = (*Transport)(nil)
	_ reverseproxy.ProxyProtocolTransport              = (*Transport)(nil)
	_ reverseproxy.RequestHeaderOpsTransport           = (*Transport)(nil)
)
