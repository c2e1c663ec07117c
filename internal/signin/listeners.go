package signin

import (
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Listeners is what clients can reach a server by.
type Listeners struct {
	// Plain is an address at which the server listens without TLS; empty if there is none.
	Plain string
	// PlainBeyond is one that is not a loopback address or a Unix socket.
	PlainBeyond string
}

// ListenersOf returns the listeners of the server whose handler is being provisioned. There are
// none for a handler that is loaded alone.
func ListenersOf(ctx caddy.Context) (l Listeners) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server == nil {
		return l
	}
	httpPort := caddyhttp.DefaultHTTPPort
	for _, m := range ctx.Modules() {
		if app, ok := m.(*caddyhttp.App); ok && app.HTTPPort != 0 {
			httpPort = app.HTTPPort
		}
	}
	for _, listen := range server.Listen {
		address, err := caddy.ParseNetworkAddress(listen)
		if err != nil {
			continue // Caddy rejects it
		}
		isHTTP := !address.IsUnixNetwork() && int(address.StartPort) <= httpPort && httpPort <= int(address.EndPort)
		plain := len(server.TLSConnPolicies) == 0 || isHTTP
		if !plain {
			continue
		}
		l.Plain = listen
		if !isLocal(address) {
			l.PlainBeyond = listen
		}
	}
	return l
}

// isLocal reports whether only this machine reaches an address.
func isLocal(a caddy.NetworkAddress) bool {
	ip, err := netip.ParseAddr(a.Host)
	return a.IsUnixNetwork() || a.IsFdNetwork() || a.Host == "localhost" || err == nil && ip.IsLoopback()
}
