// Package signin is what the negotiate_auth directive is made of: the user who has signed in
// ([User]), which certificates a client's channel bindings may name ([Certificates]), the bound on
// tokens that fail ([Throttle]), and what the server listens on ([ListenersOf]).
//
// Left out: verifying a token (negotiate/accept), the account's keys (internal/identitypool), who
// may enter (internal/config, Admission), and the cookie of a session (internal/session).
//
// Begin with User, which is what a sign-in leaves for the rest of a request.
package signin
