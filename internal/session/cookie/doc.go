// Package cookie seals who a user is into the cookie of a session, and opens it again: AES-256-GCM
// (NIST SP 800-38D) under a key that is derived by HKDF (RFC 5869) from a master key and a salt of the
// cookie's own. The site and the block of the configuration are authenticated with it.
//
// Left out: where master keys are kept, and until when a content counts, which are package session's.
// Begin with Key.Seal and Parse.
package cookie
