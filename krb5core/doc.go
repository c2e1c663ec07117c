// Package krb5core is a Kerberos V5 client (RFC 4120) that needs neither a krb5.conf nor a system library: it logs in with
// a password or a keytab and gets tickets for services, in any realm, Active Directory's among them.
//
// Begin with [NewClient], whose Sender (package kdc) knows where the KDCs are, and [NewAccount], which is a principal with
// its keys. [Client.Login] gets the ticket-granting ticket, [Client.ServiceTicket] a ticket for a service,
// [Client.TicketForUser] and [Client.TicketOnBehalf] act for a user ([MS-SFU]), [Client.Renew] and [Client.Forward] do
// what they say. The example below does the first two.
// What is won is a *messages.Credential, of which package gss makes tokens for the service (RFC 4121). Every failure is
// an [*Error], which says what the KDC said and whether that is to be believed.
//
// Beside RFC 4120 it follows RFC 3961, 3962, 4757, 6803 and 8009 (encryption, package enctype), RFC 6113
// (pre-authentication), RFC 6806 (user principal names, referrals between realms), and what [MS-KILE] and [MS-SFU] say of
// domain controllers. What a network can forge is taken for a hint: a refusal by a datagram is confirmed by a stream, a
// KDC's clock is believed when a reply that decrypts has shown it, and a wrong password is proved three times at most,
// however many KDCs there are, for each may count towards lockout.
//
// A Client keeps no tickets, and an Account only what it learnt of its KDCs: caching is the caller's. Nothing is logged; a
// [Tracer] sees every message and decision, and [Describe] decodes a message for people, without its secrets.
//
// Left out: PKINIT, user-to-user, postdated, proxiable and anonymous tickets, changing passwords, and the acceptor's side.
package krb5core
