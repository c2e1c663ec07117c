// Package gmsa reads the password of a group managed service account from Active Directory ([MS-ADTS]
// 3.1.1.4.5.39): domain controllers make it and change it, and accounts that are allowed read it over LDAP.
//
// A reading is one connection to one domain controller: TLS, a SASL bind with mechanism GSS-SPNEGO
// (RFC 4513, RFC 4178, [MS-ADTS] 5.1.1.1), a search for the account (RFC 4511), and its attribute
// msDS-ManagedPassword. The bind asks for mutual authentication and for no security layer, because
// TLS is one, and is bound to the TLS connection (RFC 5929). The token is the caller's: see [Login].
//
// Begin with [Directory.Read]. [ParsePassword] reads the attribute. Every failure is an [*Error],
// which says at which [Stage] it occurred.
//
// Left out: the rest of LDAP. There is no other kind of bind, no StartTLS, and no connection without
// TLS.
package gmsa
