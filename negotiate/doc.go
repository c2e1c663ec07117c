// Package negotiate is outbound Negotiate authentication (RFC 4559), without Caddy.
//
// An [Identity] is an account at run time: the secret that it logs in with, its
// tickets, its breaker, its clock. With the settings of one block of the configuration it
// is an [Initiator], which returns a [Grant] for a [Target]. Any number of tokens can be
// minted from a grant without contacting a KDC; each is good for one request.
// [Token.Judge] reads the response, and [Initiator.Retry] returns what a repeat is made
// from. An [Attempt] does all this for one request.
//
// The parts of HTTP that know no identity are in package httpauth, SPNEGO is in package
// spnego. Package accept is the other side, which verifies the tokens of clients. NTLM is
// out of scope.
package negotiate
