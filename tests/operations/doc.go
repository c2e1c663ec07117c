// Package operations tests what operators see of a running Caddy: metrics, the admin
// endpoint and the log. What each of them shows of which event is tested beside their
// packages (internal/metrics, internal/adminapi, internal/logging); here it is whether
// requests, reloads and the store lead to it.
package operations
