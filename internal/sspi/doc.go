// Package sspi is Windows' own Kerberos client, through the security support provider
// interface: the tickets are those of the account that the process runs as, and keys never
// leave Windows.
//
// Only the package "Kerberos" is used, so that NTLM cannot happen. A [Client] has one
// credentials handle. Each token is the first of a security context of its own
// ([Client.Initiate]), which verifies the acceptor's answer ([Context.Verify]). What Windows
// holds is read, and purged, through the local security authority (tickets.go).
//
// The functions of secur32.dll are behind an interface (functions.go), loaded when they are
// first used, without cgo. What they read and write is laid out in layout.go, for 32 and 64
// bit. On other systems [Open] returns [ErrUnsupported].
package sspi
