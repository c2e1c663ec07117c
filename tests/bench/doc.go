// Package bench compares the plugin with its peers: gokrb5 (github.com/jcmturner/gokrb5/v8),
// MIT's libgssapi_krb5, and the cryptographic primitives of the standard library.
//
// It is a separate module, so that the peers are not dependencies of the plugin. It
// contains:
//
//   - tests of gokrb5's client and acceptor with tests/kdctest and with the plugin's
//     tokens: `go test ./...`
//   - the benchmarks behind docs/performance.md, which one command runs and writes:
//     `go run ./cmd/bench -out ../../docs/performance.md` (-quick takes a minute or two
//     and only tests that everything runs)
//
// Every target of the project is a ratio, and both sides are measured in turns in one
// run, because absolute figures drift by a third on a shared machine.
//
// Begin with bench.go, which lists the sections; each section is a file: minting,
// cores, tickets, cold, herd, proxy, renewal. The peers are in gokrb5.go and mit.go with
// mit/driver.c, the primitives in floor.go.
package bench
