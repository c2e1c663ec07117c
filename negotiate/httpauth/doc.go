// Package httpauth holds the parts of HTTP authentication (RFC 9110, Section 11)
// that a proxy needs which authenticates in its client's place. It does not know
// whose credentials those are.
//
//   - challenge.go reads an upstream's challenges and keeps them from the client.
//   - authorization.go keeps a client's own Authorization from the upstream.
//   - replay.go keeps a request's body, so that a refused request can be repeated.
//   - bindings.go computes the channel bindings of a TLS connection (RFC 5929).
package httpauth
