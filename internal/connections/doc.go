// Package connections keeps the connections of different users to upstreams apart, in one
// http.Transport. An upstream may consider a connection authenticated as the client of its
// first request (IIS's authPersistNonNTLM, Apache's GssapiConnectionBound), so that no two
// users may share one, unless the upstream proves each token (see [Pool.Shares]).
//
// net/http keeps idle connections by the address of the request's URL and bounds them all
// together, the least recently used first. A [Pool] puts the user in front of that
// address; what is dialed is the address that reverse_proxy has put into the request's
// context. A user without connections takes no memory.
//
// It also resumes TLS sessions, which all users of an upstream share: a session says who
// the server is, not who the user is. Only HTTP/1.1 is supported.
//
// Begin with [Pool.RoundTrip].
package connections
