package caddynegotiate

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// upstreamSPN returns the service principal for the upstream that reverse_proxy has
// chosen for a request. A health check has no placeholders of a request; if the SPN needs
// them, it is derived from the upstream's host name.
func (t *Transport) upstreamSPN(r *http.Request, healthCheck bool) (negotiate.SPN, error) {
	template := &t.settings.SPN
	info, _ := reverseproxy.GetDialInfo(r.Context())
	spn, err := template.Eval(replacerOf(r), info.Host)
	if err != nil && healthCheck {
		spn, err = negotiate.HostSPN(info.Host)
	}
	byClient := !healthCheck && (t.chosenByClient || info.Upstream != nil && fromRequest(info.Upstream.Dial))
	switch {
	case err != nil && !byClient && (healthCheck || !template.FromRequest):
		return spn, errors.Join(negotiate.ErrUpstreamName, err)
	case err == nil && byClient && !template.Allows(spn):
		return spn, fmt.Errorf("%w: %s, of the upstream %s", negotiate.ErrSPNNotAllowed, spn, info.Upstream)
	}
	return spn, err
}

// fromRequest reports whether an upstream's address is derived from the request, so that
// the client decides which upstream gets a token.
func fromRequest(address string) bool {
	if !strings.Contains(address, "{") {
		return false
	}
	names, err := config.Placeholders(address)
	return err != nil || slices.ContainsFunc(names, func(name string) bool { return !config.Fixed(name) })
}

// anyFromRequest reports the same of the settings of a source of dynamic upstreams, which
// replaces their placeholders itself.
func anyFromRequest(setting any) bool {
	switch setting := setting.(type) {
	case string:
		return fromRequest(setting)
	case []any:
		return slices.ContainsFunc(setting, anyFromRequest)
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(setting)), anyFromRequest)
	}
	return false
}

// inspectProxy looks at the reverse_proxy that the transport belongs to: it is the module
// around the one that is being provisioned.
func (t *Transport) inspectProxy(ctx caddy.Context, place string) {
	modules := ctx.Modules()
	if len(modules) < 2 {
		return
	}
	proxy, ok := modules[len(modules)-2].(*reverseproxy.Handler)
	if !ok {
		return
	}
	var dynamic any
	_ = json.Unmarshal(proxy.DynamicUpstreamsRaw, &dynamic) // if it is not valid, Caddy says so
	t.chosenByClient = anyFromRequest(dynamic)
	if t.SPN == "" && dynamic == nil {
		t.warnOfNamelessUpstreams(proxy.Upstreams, place)
	}
}

// warnOfNamelessUpstreams warns of upstreams without a host name, to which each request
// will fail, because the SPN is derived from it. Upstreams that depend on the request are
// not known yet.
func (t *Transport) warnOfNamelessUpstreams(upstreams reverseproxy.UpstreamPool, place string) {
	for _, u := range upstreams {
		if _, named := config.UpstreamHost(u.Dial); !named && !strings.Contains(u.Dial, "{") {
			t.logger.Warn("an upstream has no host name, from which a service principal could be derived: requests to it will fail",
				zap.String("upstream", u.Dial), zap.String("at", place),
				zap.String("remedy", "set spn HTTP/host in transport negotiate, or the upstream by its name"))
		}
	}
}
