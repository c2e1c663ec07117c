// Package signin is what the negotiate_auth directive is made of, without its place in
// Caddy's configuration: the keys by which an account opens tickets, the rules that say who
// may enter, the certificates that a client's channel bindings may name, and the bound on
// tokens that fail.
//
// Left out: verifying a token, which is negotiate/accept's, and the cookie of a session,
// which is internal/session's.
//
// Begin with User, which is what a sign-in leaves for the rest of a request.
package signin
