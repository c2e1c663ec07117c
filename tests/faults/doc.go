// Package faults holds the tests of what goes wrong: KDCs that are silent, slow
// or lying, networks that lose and forge, upstreams that refuse, storages that
// fail, keys and clocks that change, several Caddys at once.
//
// TestFaults is the table: each fault with what a user sees, asserted. It
// prints itself, and writes itself to the file that CADDY_NEGOTIATE_FAULTS names.
// TestSoak runs for as long as CADDY_NEGOTIATE_SOAK says (a time span such as
// 10m), twenty seconds with `tests/run -long`, and not at all otherwise.
//
// The KDC and the upstream are kdctest's, with their counts; Caddy runs in this
// process where nothing else is said. Where several are needed, the test's own
// executable is started as Caddy, with a storage over Redis in it.
//
// Begin with table_test.go.
package faults
