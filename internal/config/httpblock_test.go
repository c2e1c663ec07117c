package config

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// Names that Caddy reads and the list lacks only miss a suggestion.
func TestHTTPSubdirectives_AreCaddys(t *testing.T) {
	for _, name := range append(httpSubdirectives, "no_such_name") {
		err := new(reverseproxy.HTTPTransport).UnmarshalCaddyfile(caddyfile.NewTestDispenser("http {\n" + name + "\n}"))
		if unknown := err != nil && strings.Contains(err.Error(), "unrecognized subdirective"); unknown != (name == "no_such_name") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
