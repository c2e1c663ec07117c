// Package delegation holds the tests of impersonation: over a real Active
// Directory domain (Samba) with Apache, and over tests/kdctest, which has Windows'
// rules where Samba lacks them. The examples and docs/delegation.md are tested here
// too.
//
// samba-trixie runs the tests against the Samba of Debian 13, which knows
// resource-based delegation, in a root of its own; it is for use on demand.
package delegation
