// Package bench holds the plugin against its peers: gokrb5 (github.com/jcmturner/gokrb5/v8),
// MIT's libgssapi_krb5, and the floor that the machine itself sets.
//
// It is a module of its own, so that what is measured against is no dependency of
// the plugin. Two things are in it:
//
//   - tests that gokrb5's client and acceptor get on with tests/kdctest and with
//     tokens of ours: `go test ./...`
//   - the benchmarks behind docs/performance.md, which one command runs and
//     writes: `go run ./cmd/bench -out ../../docs/performance.md` (with -quick in
//     a minute or two, for whether it runs at all)
//
// Every target of the project is a ratio, and both its sides are measured in
// turns in one run: absolute figures drift by a third on a shared machine.
//
// Begin with bench.go, which lists the sections; each section is a file: minting,
// scaling, cold, herd, proxy, renewal. The peers are gokrb5.go and mit.go with
// mit/driver.c, the floor is floor.go.
package bench
