// Package examples contains the example configurations, so that the demo and the tests
// run the documented configuration.
package examples

import _ "embed"

// Caddyfile is the configuration of the demo.
//
//go:embed Caddyfile
var Caddyfile []byte
