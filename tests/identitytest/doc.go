// Package identitytest has a realm for identities without Caddy, under a clock that the
// test sets: [Domain]. [Clock] and [Events] are of use with other realms, too.
package identitytest
