package lab

import (
	"fmt"
	"strings"
	"testing"
)

// Realm has the properties of a KDC that an acceptor and the client tools need. [*MIT]
// and [*Samba] implement it.
type Realm interface {
	// Name returns the realm's name, in capitals.
	Name() string
	// KDC returns host:port of its KDC, UDP and TCP.
	KDC() string
	// Krb5Conf returns the path of a krb5.conf for MIT's library.
	Krb5Conf() string
	// Keytab exports the principals' current keys into a new file.
	Keytab(t testing.TB, principals ...string) string
	// clientConf returns the text of Krb5Conf with more lines in libdefaults.
	clientConf(libdefaults ...string) string
}

var (
	_ Realm = (*MIT)(nil)
	_ Realm = (*Samba)(nil)
)

// krb5Conf returns a krb5.conf that does not use DNS. kdcs has host:port of each realm's
// KDC, domains the realm of each domain.
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
