// Package signin tests the directive negotiate_auth as clients see it: Caddy runs in the
// process of the test, and clients come with tokens that a KDC's tickets were made into.
package signin
