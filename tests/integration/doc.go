// Package integration holds the tests that run Caddy with this plugin in the
// test's own process: unmodified clients on one side, a KDC and a protected
// upstream on the other. The peers are those of kdctest and, where the system
// has them, the real ones of lab.
//
// Begin with site_test.go, which makes such a set-up.
package integration
