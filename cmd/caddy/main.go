// Command caddy is Caddy with its standard modules and this plugin: what
// `xcaddy build --with github.com/caddy-negotiate/caddy-negotiate` makes.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-negotiate/caddy-negotiate"
)

func main() {
	caddycmd.Main()
}
