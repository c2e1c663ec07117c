package caddynegotiate

import (
	"errors"
	"fmt"
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
func upstreamSPN(template *config.SPNTemplate, r *http.Request, healthCheck bool) (negotiate.SPN, error) {
	info, _ := reverseproxy.GetDialInfo(r.Context())
	spn, err := template.Eval(replacerOf(r), info.Host)
	if err != nil && healthCheck {
		spn, err = negotiate.HostSPN(info.Host)
	}
	byClient := !healthCheck && info.Upstream != nil && chosenByClient(info.Upstream.Dial)
	switch {
	case err != nil && !byClient && (healthCheck || !template.FromRequest):
		return spn, errors.Join(negotiate.ErrUpstreamName, err)
	case err == nil && byClient && !template.Allows(spn):
		return spn, fmt.Errorf("%w: %s, of the upstream %s", negotiate.ErrSPNNotAllowed, spn, info.Upstream.Dial)
	}
	return spn, err
}

// chosenByClient reports whether an upstream's address is derived from the request, so
// that the client decides which upstream gets a token.
func chosenByClient(address string) bool {
	if !strings.Contains(address, "{") {
		return false
	}
	names, err := config.Placeholders(address)
	return err != nil || slices.ContainsFunc(names, func(name string) bool { return !config.Fixed(name) })
}

// warnOfNamelessUpstreams warns of upstreams without a host name, to which each request
// will fail, if the SPN is derived from it. The transport is the module that is being
// provisioned. Upstreams that depend on the request are not known yet.
func warnOfNamelessUpstreams(ctx caddy.Context, place string) {
	modules := ctx.Modules()
	if len(modules) < 2 {
		return
	}
	proxy, ok := modules[len(modules)-2].(*reverseproxy.Handler)
	if !ok || proxy.DynamicUpstreamsRaw != nil {
		return
	}
	for _, u := range proxy.Upstreams {
		if _, named := config.UpstreamHost(u.Dial); !named && !strings.Contains(u.Dial, "{") {
			ctx.Logger().Warn("an upstream has no host name, from which a service principal could be derived: requests to it will fail",
				zap.String("upstream", u.Dial), zap.String("at", place),
				zap.String("remedy", "set spn HTTP/host in transport negotiate, or the upstream by its name"))
		}
	}
}
