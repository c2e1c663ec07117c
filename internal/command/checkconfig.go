package command

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// checkConfiguration loads the module of every use, and looks for configurations that load and
// cannot work. What is wrong with an account is left to the account's own steps.
func (c *check) checkConfiguration(accounts []*checkedAccount, uses []*use) {
	reported := func(a *checkedAccount) bool { return a != nil && a.err != nil && c.selected(a) }
	if _, err := c.modules.App("kerberos"); err != nil {
		if !slices.ContainsFunc(accounts, func(a *checkedAccount) bool { return a.name != "" && reported(a) }) {
			c.fail(stepConfig, err.Error(), "", diagnosis.CauseConfiguration)
		}
		return // no module loads without the app
	}
	for _, u := range uses {
		if reported(u.account) {
			continue
		}
		if err := c.load(u); err != nil {
			c.fail(stepConfig, fmt.Sprintf("server %s: %v", u.server, err), "", diagnosis.CauseConfiguration)
			continue
		}
		before := len(c.Steps)
		c.inspect(u)
		if len(c.Steps) == before {
			c.ok(stepConfig, "%s: %s%s", u.where, u.kind(), u.upstreams())
		}
	}
}

// load makes the use's module through Caddy's registry, and asks it for its configuration.
func (c *check) load(u *use) error {
	var holder any = &handlerHolder{u.raw}
	field := "Handler"
	if u.asTransport {
		holder, field = &reverseproxy.Handler{TransportRaw: u.raw}, "TransportRaw"
	}
	module, err := c.modules.LoadModule(holder, field)
	if err != nil {
		return err
	}
	inspector, ok := module.(config.Inspector)
	if !ok {
		return fmt.Errorf("the module %T is not of this plugin's version", module)
	}
	u.Inspection = inspector.Inspect()
	u.where = cmp.Or(u.Place, "server "+u.server)
	if u.accepts {
		u.loaded = true
		return nil
	}
	settings, err := u.Service.Compile(u.asTransport)
	if err != nil {
		return err
	}
	u.service = *settings
	u.dial = fixedUpstream(u.proxies)
	u.http2 = len(u.Versions) > 1 || slices.Contains(u.Versions, "2")
	if !u.asTransport {
		err = c.loadProxy(u)
	}
	u.loaded = err == nil
	return err
}

// handlerHolder has Caddy load one HTTP handler.
type handlerHolder struct {
	Handler json.RawMessage `caddy:"namespace=http.handlers inline_key=handler"`
}

// loadProxy makes the HTTP transport of the first proxy behind a handler.
func (c *check) loadProxy(u *use) error {
	if len(u.proxies) == 0 || protocolOf(u.proxies[0]) != "http" {
		return nil
	}
	settings := map[string]any{"protocol": "http"}
	_ = json.Unmarshal(u.proxies[0].TransportRaw, &settings) // what is not valid does not load
	settings["versions"] = []string{"1.1"}                   // with which tokens are sent
	raw, err := json.Marshal(settings)
	if err != nil {
		return err
	}
	module, err := c.modules.LoadModule(&reverseproxy.Handler{TransportRaw: raw}, "TransportRaw")
	if err != nil {
		return err
	}
	plain := module.(*reverseproxy.HTTPTransport)
	u.HTTP, u.TLS = plain.Transport, plain.TLS != nil
	return nil
}

// kind is what the use is in the configuration.
func (u *use) kind() string {
	switch {
	case u.asTransport:
		return "transport negotiate"
	case u.accepts:
		return fmt.Sprint("negotiate_auth for ", u.Admission.Names())
	}
	return "negotiate"
}

// upstreams names the upstreams for the report.
func (u *use) upstreams() string {
	if len(u.proxies) == 0 || len(u.proxies[0].Upstreams) == 0 {
		return ""
	}
	names := make([]string, 0, len(u.proxies[0].Upstreams))
	for _, upstream := range u.proxies[0].Upstreams {
		names = append(names, upstream.Dial)
	}
	return " before " + strings.Join(names, ", ")
}

func (u *use) impersonates() bool {
	return u.Impersonation != nil && u.Impersonation.Enabled()
}

// fixedUpstream returns the first address that does not depend on requests, empty if there is none.
func fixedUpstream(proxies []*reverseproxy.Handler) string {
	for _, p := range proxies {
		for _, u := range p.Upstreams {
			if dial, err := caddy.NewReplacer().ReplaceOrErr(u.Dial, true, true); err == nil && dial != "" {
				return dial
			}
		}
	}
	return ""
}

func isLoopback(dial string) bool {
	host, _ := config.UpstreamHost(dial)
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasPrefix(dial, "unix") || ip != nil && ip.IsLoopback()
}

// inspect looks for what loads and cannot work.
func (c *check) inspect(u *use) {
	switch {
	case u.accepts:
		return
	case u.asTransport:
		c.inspectTransport(u)
	default:
		c.inspectHandler(u)
	}
	plain := !u.TLS && u.dial != "" && !isLoopback(u.dial)
	if plain && (u.service.Delegation != negotiate.DelegateNever || u.impersonates()) {
		c.warn(stepConfig, u.where+": users are impersonated over plain HTTP: anyone who can read the traffic can impersonate them too", "use https:// to the upstream")
	}
}

func (c *check) inspectHandler(u *use) {
	if len(u.proxies) > 0 && !slices.ContainsFunc(u.proxies, sendsTokens) {
		c.fail(stepConfig, u.where+": no reverse_proxy behind negotiate has transport http with HTTP/1.1, so Caddy rejects the configuration",
			"use transport negotiate instead of the negotiate directive", diagnosis.CauseConfiguration)
		return
	}
	for _, p := range u.proxies {
		c.inspectProxy(u, p)
	}
	if len(u.proxies) == 0 {
		remedy := "put negotiate before reverse_proxy, in the same block"
		text := u.where + ": no reverse_proxy runs after negotiate, so no request gets its token"
		if u.elsewhere {
			text += ": the site's reverse_proxy is in a handle or route block next to it, which runs before negotiate"
			remedy = "move the negotiate block into the handle or route block that has the reverse_proxy, before it"
		}
		c.fail(stepConfig, text, remedy, diagnosis.CauseNoProxy)
	}
}

// inspectProxy looks at a reverse_proxy behind a negotiate handler.
func (c *check) inspectProxy(u *use, p *reverseproxy.Handler) {
	if !sendsTokens(p) {
		c.warn(stepConfig, u.where+": a reverse_proxy behind negotiate sends no token, because its transport is not http with HTTP/1.1",
			"use transport negotiate in that reverse_proxy instead of the negotiate directive")
		return
	}
	const better = "use transport negotiate inside reverse_proxy: it makes a new token for each attempt at each upstream"
	retries := p.LoadBalancing != nil && (p.LoadBalancing.Retries > 0 || p.LoadBalancing.TryDuration > 0)
	if len(p.Upstreams) > 1 || len(p.DynamicUpstreamsRaw) > 0 || retries {
		c.warn(stepConfig, u.where+": several upstreams or retries behind negotiate: a second attempt sends the same token, which upstreams refuse as a replay", better)
	}
}

// sendsTokens reports whether the proxy can send the tokens of a negotiate handler.
func sendsTokens(p *reverseproxy.Handler) bool {
	var http struct{ Versions []string }
	_ = json.Unmarshal(p.TransportRaw, &http)
	return protocolOf(p) == "http" && (len(http.Versions) == 0 || slices.Contains(http.Versions, "1.1"))
}

func (c *check) inspectTransport(u *use) {
	if u.http2 {
		c.warn(stepConfig, fmt.Sprintf("%s: versions %s: IIS does not authenticate over HTTP/2", u.where, strings.Join(u.Versions, " ")),
			"if the upstream is IIS: remove versions, or set versions 1.1", diagnosis.CauseHTTP2)
	}
	for _, upstream := range u.proxies[0].Upstreams {
		host, named := config.UpstreamHost(upstream.Dial)
		if u.Service.SPN == "" && !named && !strings.Contains(upstream.Dial, "{") {
			c.fail(stepConfig, fmt.Sprintf("%s: the upstream %s is not a host name, so no service principal can be derived from it", u.where, host),
				"set spn HTTP/host.corp.example in transport negotiate, or name the upstream by its host name", diagnosis.CauseUnknownSPN)
		}
	}
	if !u.impersonates() {
		return
	}
	if strings.Contains(u.Impersonation.Impersonate, "{http.auth.") && !u.authenticated {
		c.warn(stepConfig, u.where+": impersonate takes the user from {http.auth.*}, but the site has no authentication handler that sets it: every request will be 403",
			"put basic_auth or another authentication provider before; with forward_auth use its header: impersonate {http.request.header.X} and trust_header X")
	}
	if c.user == "" {
		with := "add --user NAME"
		if u.Impersonation.ByTicket() {
			with += " --password-file FILE"
		}
		c.warn(stepConfig, u.where+": impersonate was not checked: no user given", with)
	}
}
