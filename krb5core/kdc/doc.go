// Package kdc finds the KDCs of a realm and asks them: bytes in, bytes out.
//
// It knows how Kerberos messages travel (RFC 4120 section 7.2: UDP, TCP with a
// length prefix, DNS SRV records; [MS-KKDCP]: HTTPS) and nothing of what they
// say, except that it recognises KRB_ERR_RESPONSE_TOO_BIG, which is about
// transport. What a reply is worth is decided by the caller's [Query].Check.
//
// Begin with [NewSender] and [Sender.Send]. A [Finder] tells where a realm's
// KDCs are ([Static], [SRV], [First]); [Options] are the settings of the
// sockets; an [Observer] sees every message and every decision; [Sender.Health]
// tells what is remembered of each KDC.
//
// One [Sender.Send] asks the KDCs in order of preference, those that were
// silent of late last. The next one is asked when the current one fails or has
// been silent for the hedge delay, and the first acceptable reply wins. A
// query that carries pre-authentication is never at two KDCs at once, for a
// wrong password is counted by each. When Send returns, no goroutine and no
// socket of it is left.
//
// Left out: the URI records of RFC draft-ietf-kitten-krb-service-discovery,
// UDP through SOCKS, and HTTP redirects, which [MS-KKDCP] does not know.
package kdc
