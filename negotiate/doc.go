// Package negotiate is the HTTP side of outbound Negotiate authentication (RFC
// 4559), without Caddy.
//
// An [Identity] is who we are, as a running thing: an account, the secret that it
// logs in with, its tickets, its breaker, its clock. For a [Target] it gives a
// [Grant], of which any number of tokens can be minted without asking anybody;
// each is good for one request. [Token.Judge] reads an answer, and
// [Identity.Retry] says what a repeat may be made of. Around that are what both
// the handler and the transport need: reading and dropping challenges
// (challenge.go), keeping a client's own Authorization out (authorization.go),
// keeping a body for a repeat (body.go), channel bindings (bindings.go).
//
// Left out: NTLM, and accepting logins.
package negotiate
