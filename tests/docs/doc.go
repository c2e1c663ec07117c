// Package docs holds the documentation to the code: every Caddyfile that is shown
// loads and is formatted, every command that is shown exists, the reference has
// every directive, metric, placeholder, error, status, flag and field, and no
// other, and every example does what it says, against a KDC.
//
// What the code has is read from its source (source_test.go), what the
// documentation has from its Markdown (markdown_test.go); reference_test.go
// compares the two. Begin there. examples_test.go runs the examples.
package docs
