// Package exchange holds the conversations of a Kerberos client with its KDCs as machines without I/O: reply octets go
// in, request octets come out. RFC 4120 section 3.1 (AS) and 3.3 (TGS), RFC 6806 (names that the KDC corrects, referrals,
// PA-REQ-ENC-PA-REP), RFC 6113 (FAST armor, encrypted challenge), RFC 9588 (SPAKE), [MS-SFU] (S4U2Self, S4U2Proxy).
//
// A machine is driven so:
//
//	for reply := []byte(nil); ; {
//		req, err := m.Step(reply)
//		if err != nil || req == nil {
//			break // failed, or done: look at m.Result()
//		}
//		reply = send(req.Realm, req.Message, m.Check)
//	}
//
// Check tells, without any effect, whether some octets are an answer to the question that is open. What is not wraps
// ErrForeign, and Step treats it so too: it returns the error and stays where it is, so that a forged or belated datagram
// never ends an exchange. Whoever has waited in vain should report the last such error: a reply that does not decrypt may
// just mean a wrong password, and WrongKeyError names the salt. Every reply is verified before it is believed: message
// type, nonce, names, realms, times, flags, key type, and the KDC's checksum over the request where it makes one.
//
// KRB-ERRORs are not authenticated. A machine follows one only where that does no harm, for what a network can
// forge is a hint: salt and type are chosen among those allowed, a key is never tried twice with one salt, a clock
// offset is provisional until a decrypted reply confirms it, and hops are bounded. With FAST, errors are authenticated: one
// that comes without armor ends an exchange as an UnarmoredError, and nothing is sent unarmored because of it.
//
// Left out: sending (package kdc), caching, choosing KDCs, retrying after a final error, and PKINIT. A machine is for
// one exchange and one goroutine. Begin with AS, then TGS; S4U2Self and S4U2Proxy are built on the latter.
package exchange
