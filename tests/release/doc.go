// Package release makes what a release has, twice, and uses it: archives and packages for every
// system, the same bytes both times, and the .deb in a new Debian. It compiles Caddy for each
// system, so that only `tests/run -long` runs it.
package release
