// Package kdctest is a Kerberos realm for tests and demonstrations: a KDC and an
// acceptor in this process, with real cryptography, on real sockets.
//
// The KDC (RFC 4120, RFC 6806, [MS-SFU]) serves one or several realms over UDP
// and TCP: logins with encrypted timestamp, SPAKE (RFC 9588), PKINIT (RFC 4556,
// RFC 8062) or, in FAST armor (RFC 6113), encrypted challenge, service tickets, renewal,
// forwarding, referrals, and Services for User with Windows' rules. It counts
// requests and replies, its clock and randomness are injected, and it misbehaves on
// demand (Fault).
//
// The acceptor (RFC 4121, RFC 4178, RFC 4559) verifies Negotiate as Apache or
// IIS do: replay, clock, channel bindings like Extended Protection, mutual
// authentication, delegated tickets, identities kept per connection. Upstream
// is an HTTP server with an acceptor.
//
// Begin with a realm, a KDC and an upstream:
//
//	realm := kdctest.NewRealm("CORP.EXAMPLE")
//	realm.AddUser("alice", "secret")
//	web := realm.AddService("HTTP/web.corp.example")
//	kdc := kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}})
//	err := kdc.Start() // and Stop
//	keys, err := realm.Keytab(web)
//	acceptor, err := kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: keys})
//	upstream := kdctest.NewUpstream(kdctest.UpstreamConfig{Acceptor: acceptor})
//	err = upstream.Start() // and Stop
//
// Left out: key transport and AD-INITIAL-VERIFIED-CAS of PKINIT, user-to-user, postdated and
// proxy tickets, password changes and real PACs: filler of the same size takes the place of
// a PAC, and local authorization data that of the fields which a KDC reads. The KDC does not
// protect its secrets.
package kdctest
