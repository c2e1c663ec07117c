// Package kdc finds the KDCs of a realm and sends them requests: bytes in,
// bytes out.
//
// It implements how Kerberos messages travel (RFC 4120, Section 7.2: UDP, TCP
// with a length prefix, DNS SRV records; [MS-KKDCP]: HTTPS). Of their content
// it knows only KRB_ERR_RESPONSE_TOO_BIG, which concerns the transport. The
// caller's [Request].Check judges replies.
//
// Begin with [NewSender] and [Sender.Send]. A [Finder] returns a realm's KDCs
// ([Static], [SRV], [First]); [Options] are the settings of the sockets; an
// [Observer] sees every message and every decision; [Sender.Health] returns
// what is known of each KDC.
//
// One [Sender.Send] asks the KDCs in order of preference, those that were
// silent recently last. It asks the next one when the current one fails or has
// been silent for the hedge delay, and takes the first acceptable reply. A
// request that carries pre-authentication is never at two KDCs at once, because
// each counts a wrong password. When Send returns, its sockets are closed and
// its goroutines have ended or are ending.
//
// Left out: the URI records of draft-ietf-kitten-krb-service-discovery, UDP
// through SOCKS, and HTTP redirects, which [MS-KKDCP] does not provide for.
package kdc
