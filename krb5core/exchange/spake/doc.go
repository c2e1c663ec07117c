// Package spake is the password-authenticated key exchange of RFC 9588, by which a client proves
// its long-term key to a KDC without exposing it to password guessing by an eavesdropper or a fake
// KDC.
//
// It only computes: the messages are in package messages, the exchange in package exchange. Each
// side creates a [Party] and sends its Public value. With the other side's value, Keys returns the
// shared secret, from which the keys K'[n] are derived: K'[0] is the reply key, K'[1] protects the
// client's second factor.
//
// Left out are the groups P-384 and P-521, which no KDC has alone, and second factors. None of this
// is approved under FIPS 140.
package spake
