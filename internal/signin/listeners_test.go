package signin

import (
	"context"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
)

// A server with TLS has none on the HTTP port.
func TestListenersOf(t *testing.T) {
	tls := caddytls.ConnectionPolicies{new(caddytls.ConnectionPolicy)}
	for _, row := range []struct {
		listen string
		tls    caddytls.ConnectionPolicies
		want   Listeners
	}{
		{":443", tls, Listeners{}},
		{":80", tls, Listeners{":80", ":80"}},
		{":79-81", tls, Listeners{":79-81", ":79-81"}},
		{":81-90", tls, Listeners{}},
		{"unix//run/caddy.sock", tls, Listeners{}},
		{":443", nil, Listeners{":443", ":443"}},
		{"127.0.0.1:8080", nil, Listeners{"127.0.0.1:8080", ""}},
		{"[::1]:8080", nil, Listeners{"[::1]:8080", ""}},
		{"unix//run/caddy.sock", nil, Listeners{"unix//run/caddy.sock", ""}},
	} {
		server := &caddyhttp.Server{Listen: []string{row.listen}, TLSConnPolicies: row.tls}
		ctx, cancel := caddy.NewContext(caddy.Context{Context: context.WithValue(t.Context(), caddyhttp.ServerCtxKey, server)})
		if got := ListenersOf(ctx); got != row.want {
			t.Errorf("%s, TLS %t: %+v, want %+v", row.listen, row.tls != nil, got, row.want)
		}
		cancel()
	}
}
