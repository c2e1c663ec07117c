// Package caddytest runs Caddy with this plugin inside of a test's process. It is
// what all test folders share:
//
//   - [Main] is a package's TestMain.
//   - [Caddy] loads and reloads configurations, and holds the log.
//   - [Env] is a Caddy with a Kerberos realm: a KDC, the proxy's account, a service
//     with its upstream.
//   - [Answer], [Ask], [Parallel] make requests.
//   - [WaitFor] and [Log.Await] wait, never without a bound.
//   - [LeakCheck] finds goroutines that a stopped Caddy has left.
//
// A process runs one Caddy, so tests that load configurations do not run in
// parallel. Peers other than Caddy come from tests/kdctest (in the process) and
// tests/lab (real ones).
package caddytest
