// Package spake is the password-authenticated key exchange of RFC 9588, by which a client proves its long-term key to a
// KDC without giving anybody who listens, or who plays the KDC, something to try passwords on.
//
// It computes; the messages are those of package messages, the conversation is package exchange's. Each side makes a
// [Party] and sends its Public value. When it has the other's, Keys gives the secret of both, from which the keys K'[n]
// are derived: K'[0] is the reply key, K'[1] protects the client's second factor.
//
// Left out are the groups P-384 and P-521, which no KDC has alone, and second factors. None of this is approved under
// FIPS 140.
package spake
