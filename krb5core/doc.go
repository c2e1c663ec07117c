// Package krb5core is a Kerberos V5 client (RFC 4120) that needs neither a krb5.conf nor a system
// library: it logs in with a password or a keytab and gets tickets for services, in any realm,
// including Active Directory domains.
//
// Begin with [NewClient], whose Sender (package kdc) finds and asks the KDCs, and [NewAccount], a
// principal with its keys. [Client.Login] gets the ticket-granting ticket, [Client.ServiceTicket] a
// ticket for a service, [Client.TicketForUser] and [Client.TicketOnBehalf] impersonate a user
// ([MS-SFU]). The example below does the first two. The result is a *messages.Credential, from
// which package gss mints tokens for the service (RFC 4121). Every failure is an [*Error] with the
// KDC's refusal and whether it is confirmed.
//
// Beside RFC 4120 it follows RFC 3961, 3962, 4757, 6803 and 8009 (encryption, package enctype), RFC
// 6113 (pre-authentication), RFC 6806 (user principal names, referrals between realms), and
// [MS-KILE] and [MS-SFU] for domain controllers. What a network can forge is a hint: a refusal over
// UDP is confirmed over TCP, and so is what a datagram says of a password's salt and iterations or
// of another realm, before a key is made; a KDC's clock is believed for its own realm when a decrypted reply
// confirms it, and a login proves a key in at most three messages (exchange.Budget), because each
// proof may count towards lockout.
//
// A Client keeps no tickets, and an Account only what it learnt from its KDCs: the caller caches
// tickets. Nothing is logged; a [Tracer] observes every message and decision, and [Describe]
// decodes a message for people, without its secrets.
//
// Left out: PKINIT, user-to-user, postdated, proxiable and anonymous tickets, changing passwords,
// and the acceptor's side.
package krb5core
