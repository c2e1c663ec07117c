// Package session keeps users signed in by a sealed cookie, so that their browsers need not show a
// ticket with each request: the subdirective `session` of `negotiate_auth`.
//
// The cookie holds who the user is, the groups, and when the session began and ends, sealed with
// AES-256-GCM under a key that is derived (RFC 5869) from a master key and a salt of the cookie's
// own. The site and the block of the configuration are authenticated with it ([cookie]). Master keys are kept
// in Caddy's storage, so that sessions outlive the process and a fleet shares them; a new one is
// made every 30 days. Nothing is kept of a session on the server but the ticket that the user signed
// in with, in the memory of the process: it is evidence for constrained delegation.
//
// A cookie is good until its end, wherever it is copied to: signing off clears it in the browser and
// drops the ticket. Who can read the master keys can sign in as any user.
//
// Left out: who may enter, which negotiate_auth judges at each request. Begin with Settings.Open,
// then Sessions.Resume.
package session
