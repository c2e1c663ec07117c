// Package exchange holds the exchanges of a Kerberos client with its KDCs as machines without I/O:
// replies go in, requests come out. RFC 4120, Section 3.1 (AS) and 3.3 (TGS), RFC 6806 (names that
// the KDC corrects, referrals, PA-REQ-ENC-PA-REP), RFC 6113 (FAST armor, encrypted challenge), RFC
// 9588 (SPAKE), RFC 4556, 8062, 8070 and 8636 (PKINIT), [MS-SFU] (S4U2Self, S4U2Proxy).
//
// A machine is run like this:
//
//	for reply := []byte(nil); ; {
//		req, err := m.Step(reply)
//		if err != nil || req == nil {
//			break // failed, or done: look at m.Result()
//		}
//		reply = send(req.Realm, req.Message, m.Check)
//	}
//
// Check reports, without side effects, whether a message answers the open request. If it does not,
// the error wraps ErrForeign, and Step returns the same error and keeps waiting, so that a forged
// or late datagram never ends an exchange. A caller that times out should report the last such
// error: a reply that does not decrypt may just mean a wrong password, and WrongKeyError names the
// salt. Every reply is verified before it is believed: message type, nonce, names, realms, times,
// flags, key type, and the KDC's checksum over the request if there is one.
//
// KRB-ERRORs are not authenticated. A machine follows one only where that is harmless, since a
// network can forge it: types are chosen among those allowed, a new salt, more iterations or another
// realm in a datagram are confirmed first (AS.StepUDP), a password is proved in configured realms
// only, a clock offset is provisional until a decrypted reply confirms it, and hops are bounded. With FAST, errors are authenticated: one that comes without armor ends an exchange as an
// UnarmoredError, and nothing is sent unarmored because of it.
//
// Left out: sending (package kdc), caching, choosing KDCs, and retrying after a final error. A machine serves one exchange and one goroutine. Begin with AS, then TGS; S4U2Self and
// S4U2Proxy are built on the latter.
package exchange
