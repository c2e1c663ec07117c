// Package docs compares the documentation with the plugin: every Caddyfile that is
// shown loads and is formatted, every command that is shown exists, the reference
// has every directive, metric, placeholder, error, status, flag and field, and no
// other, and every example does what it says, against a KDC.
//
// What the plugin has comes from its tables (diagnosis, metrics, admin API, log
// fields), its JSON structs and a running Caddy (live_test.go), what the
// documentation has from its Markdown (markdown_test.go); reference_test.go
// compares the two. Begin there. examples_test.go runs the examples.
package docs
