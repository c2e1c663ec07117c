package krb5conf

import (
	"net/netip"
	"strings"
)

// readDomainRealm reads [domain_realm], whose first relation of a name counts.
func (c *Config) readDomainRealm(s *Section) {
	for _, n := range s.Nodes() {
		if n.Section != nil {
			continue
		}
		if _, ok := c.DomainRealm[n.Tag]; !ok {
			c.DomainRealm[n.Tag] = n.Value
		}
	}
}

// RealmOf returns the realm of a host by [domain_realm], "" if it says nothing
// about that host or the host is an IP address. As in MIT, the name is taken in
// lower case and without a final dot, and looked up from the most specific on:
// host.example.com, .example.com, example.com, .com, com. So an entry without
// a leading dot covers what is below it, too, while one with a leading dot does
// not cover the domain itself; and an entry with capitals is never found.
func (c *Config) RealmOf(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if numeric(host) {
		return ""
	}
	for name := host; name != ""; {
		if realm, ok := c.DomainRealm[name]; ok {
			return realm
		}
		if rest, ok := strings.CutPrefix(name, "."); ok {
			name = rest
		} else {
			name = afterLabel(name)
		}
	}
	return ""
}

// afterLabel returns what follows the first label of a name, with its dot.
func afterLabel(name string) string {
	_, rest, ok := strings.Cut(name, ".")
	if !ok {
		return ""
	}
	return name[len(name)-len(rest)-1:]
}

// numeric reports whether a host is an address, or four numbers that look like
// one.
func numeric(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil || strings.Contains(host, ":") {
		return true
	}
	return strings.Count(host, ".") == 3 && strings.Trim(host, ".0123456789") == ""
}
