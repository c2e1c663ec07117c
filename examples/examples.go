// Package examples holds the example configurations, so that the demo and the
// tests run what the documentation shows.
package examples

import _ "embed"

// Caddyfile is what the demo runs.
//
//go:embed Caddyfile
var Caddyfile []byte
