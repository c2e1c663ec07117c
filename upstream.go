package caddynegotiate

import (
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// warnOfNameless warns where the transport that is being provisioned is to name the
// service by an upstream that has no host name: each request to it will fail. Upstreams
// that only requests tell are not known yet.
func warnOfNameless(ctx caddy.Context) {
	lineage := ctx.Modules()
	if len(lineage) < 2 {
		return
	}
	t, ours := lineage[len(lineage)-1].(*Transport)
	proxy, known := lineage[len(lineage)-2].(*reverseproxy.Handler)
	if !ours || !known || t.SPN != "" || proxy.DynamicUpstreamsRaw != nil {
		return
	}
	for _, u := range proxy.Upstreams {
		if strings.Contains(u.Dial, "{") {
			continue
		}
		if _, named := upstreamHost(u.Dial); !named {
			ctx.Logger().Warn("an upstream has no host name, from which a service principal could be made: requests to it will fail",
				zap.String("upstream", u.Dial), zap.String("at", t.Request.Origin[blockOrigin]),
				zap.String("remedy", "state spn HTTP/host in transport negotiate, or the upstream by its name"))
		}
	}
}

// upstreamHost is the host of a dial address, and whether it is a name.
func upstreamHost(dial string) (host string, named bool) {
	address, err := caddy.ParseNetworkAddressWithDefaults(dial, "tcp", 80)
	if err != nil || address.IsUnixNetwork() {
		return dial, false
	}
	return address.Host, negotiate.CheckHost(address.Host) == nil
}
