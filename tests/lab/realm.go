package lab

import (
	"fmt"
	"strings"
	"testing"
)

// A Realm is what an acceptor and the client tools need to know of a KDC; both
// [*MIT] and [*Samba] are one.
type Realm interface {
	// Name is the realm's, in capitals.
	Name() string
	// KDC is host:port of its KDC, UDP and TCP.
	KDC() string
	// Krb5Conf is the path of a krb5.conf for MIT's library.
	Krb5Conf() string
	// Keytab exports the principals' current keys into a new file.
	Keytab(t testing.TB, principals ...string) string
	// clientConf is the text of Krb5Conf with further lines in libdefaults.
	clientConf(libdefaults ...string) string
}

var (
	_ Realm = (*MIT)(nil)
	_ Realm = (*Samba)(nil)
)

// krb5Conf writes a krb5.conf that asks no DNS: kdcs holds host:port of each
// realm's KDC, domains which realm the hosts of a domain belong to.
func krb5Conf(realm string, libdefaults []string, kdcs, domains [][2]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `[libdefaults]
 default_realm = %s
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
 forwardable = true
 kdc_timesync = 0
 allow_weak_crypto = true
 permitted_enctypes = %s
`, realm, strings.Join(allETypes, " "))
	for _, line := range libdefaults {
		fmt.Fprintf(&b, " %s\n", line)
	}
	b.WriteString("[realms]\n")
	for _, k := range kdcs {
		fmt.Fprintf(&b, " %s = {\n  kdc = %s\n }\n", k[0], k[1])
	}
	b.WriteString("[domain_realm]\n")
	for _, d := range domains {
		fmt.Fprintf(&b, " .%s = %s\n %[1]s = %s\n", d[0], d[1])
	}
	return b.String()
}
