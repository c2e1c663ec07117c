// Package lab starts the real peers as child processes, for tests: MIT's
// krb5kdc, Samba's AD domain controller, and Apache with mod_auth_gssapi.
//
// [StartMIT] makes a realm with the test's principals, [MIT.Trust] joins two realms.
// [SharedSamba] is one Active Directory domain for a whole test process, because it
// takes ten seconds to make. [StartApache] is an acceptor for a [Realm], either of the
// two. [StartController] is a domain controller of Samba 4.22, with LDAP. [StartKCM] is a daemon that keeps credential caches. [Tools] runs kinit, kvno, klist and curl as clients of a realm. [Require] skips
// a test whose peer is not installed. [CaddyBinary] is Caddy with this plugin.
//
// Everything listens on a loopback address of the test process's own, on unprivileged
// ports, and lives in a temporary directory. A peer ends with the test that started it;
// should the test process die first, the kernel ends the peers (on Linux) and a waiting
// shell removes the directories. The package signals only processes that it has
// started.
//
// Left out: DNS (realms are found by configuration), kadmind and kpasswd, and
// every service of a domain controller but its KDC and LDAP.
//
// Begin with mit_test.go.
package lab
