package faults

import (
	"os"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// actAsCaddy is the environment variable by which the test's executable is Caddy:
// with this plugin, and with a storage over Redis.
const actAsCaddy = "CADDY_NEGOTIATE_FAULTS_CADDY"

func runCaddy() {
	caddycmd.Main()
	os.Exit(0)
}
