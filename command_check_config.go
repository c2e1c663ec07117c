package caddynegotiate

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// site is a place that uses negotiate, with its modules made.
type site struct {
	*use
	handler   *Handler   // of the directive
	transport *Transport // of the transport; one of the two is nil

	base  *http.Transport // what requests go out by; nil if it could not be made
	tls   bool
	dial  string // the upstream's address, host:port; empty if only a request tells
	http2 bool
}

func (s *site) login() *Login {
	if s.transport != nil {
		return &s.transport.Login
	}
	return &s.handler.Login
}

func (s *site) request() *Request {
	if s.transport != nil {
		return &s.transport.Request
	}
	return &s.handler.Request
}

// kind is what the place is in the configuration.
func (s *site) kind() string {
	if s.transport != nil {
		return "transport negotiate"
	}
	return "negotiate"
}

// checkConfiguration makes the modules of every place that uses negotiate, and looks
// for what loads but cannot work.
func (c *check) checkConfiguration() []*site {
	if _, err := c.env.App("kerberos"); err != nil && !c.ofAccount(err) {
		c.fail(stepConfig, err.Error(), "", causeConfiguration)
	}
	var sites []*site
	for _, u := range c.doc.uses {
		s, err := c.build(u)
		if s == nil {
			c.fail(stepConfig, u.where+": "+err.Error(), "", causeConfiguration)
			continue
		}
		if err != nil && !c.ofAccount(err) {
			c.fail(stepConfig, s.where+": "+err.Error(), "", causeConfiguration)
		}
		before := len(c.Steps)
		c.inspect(s)
		if err == nil && len(c.Steps) == before {
			c.ok(stepConfig, "%s: %s%s", s.where, s.kind(), s.leadsTo())
		}
		sites = append(sites, s)
	}
	return sites
}

// leadsTo names the upstreams, for the report.
func (s *site) leadsTo() string {
	if len(s.proxies) == 0 || len(s.proxies[0].Upstreams) == 0 {
		return ""
	}
	names := make([]string, 0, len(s.proxies[0].Upstreams))
	for _, u := range s.proxies[0].Upstreams {
		names = append(names, u.Dial)
	}
	return " before " + strings.Join(names, ", ")
}

// ofAccount tells whether an error is about credentials, whose own steps say it.
func (c *check) ofAccount(err error) bool {
	all := make([]*Credentials, 0, len(c.doc.app.Identities))
	for _, credentials := range c.doc.app.Identities {
		all = append(all, credentials)
	}
	for _, u := range c.doc.uses {
		var login Login
		if json.Unmarshal(u.raw, &login) == nil && login.Credentials != nil {
			all = append(all, login.Credentials)
		}
	}
	return slices.ContainsFunc(all, func(credentials *Credentials) bool {
		w := &who{credentials: credentials}
		cause := w.read(c.doc.app, zap.NewNop())
		return cause != nil && strings.Contains(err.Error(), cause.Error())
	})
}

// build makes the module of a place. It may give both a site, as far as it could be
// made, and an error.
func (c *check) build(u *use) (*site, error) {
	s := &site{use: u}
	if err := s.decode(); err != nil {
		return nil, err
	}
	if u.asTransport {
		err := s.transport.Provision(c.env)
		s.transport.Login.cleanup()
		s.tls, s.base, s.http2 = s.transport.TLS != nil, s.transport.HTTPTransport.Transport, len(s.transport.Versions) > 1 || slices.Contains(s.transport.Versions, "2")
		s.findUpstream()
		return s, err
	}
	err := s.handler.Provision(c.env)
	s.handler.Login.cleanup()
	s.findUpstream()
	if len(s.proxies) > 0 && s.proxies[0].protocol() == "http" {
		plain := new(reverseproxy.HTTPTransport)
		if raw := s.proxies[0].Transport; len(raw) > 0 {
			if jsonErr := json.Unmarshal(raw, plain); jsonErr != nil {
				return s, jsonErr
			}
		}
		if baseErr := plain.Provision(c.env); baseErr != nil {
			return s, baseErr
		}
		s.tls, s.base, s.http2 = plain.TLS != nil, plain.Transport, slices.Contains(plain.Versions, "2")
	}
	return s, err
}

// decode reads the JSON of the place.
func (s *site) decode() error {
	if s.asTransport {
		s.transport = newTransport()
		return caddy.StrictUnmarshalJSON(without(s.raw, "protocol"), s.transport)
	}
	s.handler = new(Handler)
	return caddy.StrictUnmarshalJSON(without(s.raw, "handler"), s.handler)
}

// logins decodes all places, without making anything of them.
func (d *document) logins() ([]*site, error) {
	var sites []*site
	for _, u := range d.uses {
		s := &site{use: u}
		if err := s.decode(); err != nil {
			return nil, fmt.Errorf("%s: %w", u.where, err)
		}
		sites = append(sites, s)
	}
	return sites, nil
}

// findUpstream takes the first upstream whose address is stated.
func (s *site) findUpstream() {
	for _, p := range s.proxies {
		for _, u := range p.Upstreams {
			dial, err := caddy.NewReplacer().ReplaceOrErr(u.Dial, true, true)
			if err == nil && dial != "" {
				s.dial = dial
				return
			}
		}
	}
}

// without takes the key off that Caddy chooses the module by.
func without(raw json.RawMessage, key string) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return raw
	}
	delete(fields, key)
	out, err := json.Marshal(fields)
	if err != nil {
		return raw
	}
	return out
}

// inspect looks for what loads and cannot work.
func (c *check) inspect(s *site) {
	if s.transport != nil {
		c.inspectTransport(s)
	} else {
		c.inspectHandler(s)
	}
	plain := !s.tls && s.dial != "" && !isLoopback(s.dial)
	if plain && (s.request().Delegate != "" || s.transport != nil && s.transport.Impersonation.enabled()) {
		c.warn(stepConfig, s.where+": users are acted for over plain HTTP, where whoever reads along can act for them too", "use https:// towards the upstream")
	}
}

func (c *check) inspectHandler(s *site) {
	if len(s.proxies) == 0 {
		remedy := "put negotiate before reverse_proxy, in the same block"
		text := s.where + ": negotiate reaches no reverse_proxy: nothing gets its token"
		if s.elsewhere {
			text = s.where + ": negotiate reaches no reverse_proxy: the site's reverse_proxy stands in a handle or route block beside it, and is done before negotiate's turn comes"
			remedy = "move the negotiate block into the handle or route block that has the reverse_proxy, before it"
		}
		c.fail(stepConfig, text, remedy, causeRoute)
		return
	}
	for _, p := range s.proxies {
		c.inspectProxy(s, p)
	}
}

// inspectProxy looks at a reverse_proxy behind a negotiate directive.
func (c *check) inspectProxy(s *site, p *proxy) {
	if p.protocol() == "negotiate" {
		c.warn(stepConfig, s.where+": the reverse_proxy behind negotiate has transport negotiate, which makes tokens of its own",
			"drop one of them; the transport is the better one")
		return
	}
	if p.dropsAuthorization() {
		c.fail(stepConfig, s.where+": header_up in the reverse_proxy takes the Authorization header off, or sets another",
			"remove header_up Authorization; negotiate keeps the client's own from the upstream anyway", causeDropped)
	}
	const better = "use transport negotiate inside reverse_proxy: it makes a fresh token for each attempt at each upstream"
	retries := p.LoadBalancing != nil && (p.LoadBalancing.Retries > 0 || len(p.LoadBalancing.TryDuration) > 0)
	if len(p.Upstreams) > 1 || len(p.Dynamic) > 0 || retries {
		c.warn(stepConfig, s.where+": several upstreams or retries behind negotiate: a second attempt sends the same token, which upstreams take for a replay", better)
	}
	if p.HealthChecks != nil && len(p.HealthChecks.Active) > 0 {
		c.warn(stepConfig, s.where+": active health checks do not pass negotiate and go out without a token: the upstream answers 401 and is taken to be down", better)
	}
	if s.tls && s.http2 {
		c.warn(stepConfig, s.where+": reverse_proxy may speak HTTP/2 to the upstream, over which IIS does not authenticate",
			"if the upstream is IIS: transport http { versions 1.1 }, or transport negotiate", causeHTTP2)
	}
}

// dropsAuthorization tells whether header operations touch what negotiate sets.
func (p *proxy) dropsAuthorization() bool {
	if p.Headers == nil || p.Headers.Request == nil {
		return false
	}
	ops := p.Headers.Request
	isOurs := func(name string) bool { return strings.EqualFold(name, "Authorization") || name == "*" }
	for _, set := range []map[string]json.RawMessage{ops.Add, ops.Set} {
		for name := range set {
			if isOurs(name) {
				return true
			}
		}
	}
	return slices.ContainsFunc(ops.Delete, isOurs)
}

func (c *check) inspectTransport(s *site) {
	t := s.transport
	if s.http2 {
		c.warn(stepConfig, fmt.Sprintf("%s: versions %s: IIS does not authenticate over HTTP/2", s.where, strings.Join(t.Versions, " ")),
			"if the upstream is IIS: remove versions, or set versions 1.1", causeHTTP2)
	}
	for _, u := range s.proxies[0].Upstreams {
		host, named := upstreamHost(u.Dial)
		if t.SPN == "" && !named && !strings.Contains(u.Dial, "{") {
			c.fail(stepConfig, fmt.Sprintf("%s: the upstream %s is no host name, from which a service principal could be made", s.where, host),
				"state spn HTTP/host.corp.example in transport negotiate, or the upstream by its name", causeUnknownSPN)
		}
	}
	if t.Impersonation.enabled() && strings.Contains(t.Impersonate, "{http.auth.") && !s.authenticated {
		c.warn(stepConfig, s.where+": impersonate takes the user from {http.auth.*}, but the site has no authentication handler that would set it: every request will be 403",
			"put basic_auth or another authentication provider before; with forward_auth take its header: impersonate {http.request.header.X} and trust_header X")
	}
	if t.Impersonation.enabled() && c.flags.user == "" {
		c.warn(stepConfig, s.where+": impersonate is not checked, for want of a user", "give --user NAME")
	}
}

func isLoopback(dial string) bool {
	host, _ := upstreamHost(dial)
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasPrefix(dial, "unix") || ip != nil && ip.IsLoopback()
}
