package krb5conf

import (
	"maps"
	"slices"
	"time"
)

// A Config holds the settings of a krb5.conf for a Kerberos client. It is not changed
// after loading, so goroutines may share it.
type Config struct {
	LibDefaults LibDefaults

	// Realms is the [realms] section.
	Realms map[string]Realm

	// DomainRealm is the [domain_realm] section as written; RealmOf reads it.
	DomainRealm map[string]string

	// CAPaths is the [capaths] section: for a client realm and a server realm
	// the realms between, or "." for none; CAPath reads it.
	CAPaths map[string]map[string][]string

	// Profile is the whole tree, relations unknown to this package included.
	Profile *Section

	// Files are those that were read, in order, for callers that watch them.
	Files []string

	// Warnings are about what was ignored, as MIT does, although its author
	// can hardly have meant that: *Error values.
	Warnings []error

	realmDefaults map[string]LibDefaults
}

// LibDefaults are the relations of [libdefaults] that this client follows, with
// MIT's defaults where the file says nothing. All others are accepted.
type LibDefaults struct {
	// DefaultRealm is default_realm, "" if absent.
	DefaultRealm string

	// PermittedEnctypes are the names as written, families ("aes"), "DEFAULT"
	// and removals ("-rc4") among them; nil if absent.
	PermittedEnctypes []string

	ClockSkew    time.Duration // clockskew; default 5 minutes
	DNSLookupKDC bool          // dns_lookup_kdc, or dns_fallback; default true

	// UDPPreferenceLimit is the size in bytes of the largest message that is
	// tried over UDP first: 0 (always TCP first) to 32700, default 1465.
	UDPPreferenceLimit int

	// RequestTimeout bounds one exchange with the KDCs: request_timeout (MIT
	// 1.22), or Heimdal's kdc_timeout. 0 if absent.
	RequestTimeout time.Duration

	TicketLifetime time.Duration // ticket_lifetime; 0 if absent
	Canonicalize   *bool         // canonicalize in AS-REQs; nil if absent

	// DefaultCCacheName is default_ccache_name, its parameters not replaced; "" if absent.
	DefaultCCacheName string

	KCMSocket string // kcm_socket; "" if absent, "-" where KCM must not be used
}

// A Realm is a subsection of [realms].
type Realm struct {
	// KDCs are the values of kdc, in order and as written: host, host:port,
	// [IPv6]:port, https://host/path, or Heimdal's udp/host and tcp/host.
	KDCs []string

	// PrimaryKDCs are those of primary_kdc, or of its older name master_kdc:
	// where a changed password is known first.
	PrimaryKDCs []string

	// KpasswdServers are those of kpasswd_server, which change passwords, and
	// AdminServers those of admin_server, which do so where there are none: host
	// or host:port.
	KpasswdServers, AdminServers []string

	// HTTPAnchors are the CA certificates for https KDCs (http_anchors):
	// FILE:, DIR: or ENV: and a name.
	HTTPAnchors []string

	// SiteName is the Active Directory site (sitename, MIT 1.22).
	SiteName string
}

// LibDefaultsFor returns the defaults for clients of one realm. MIT lets a
// subsection of [libdefaults] with the realm's name override ticket_lifetime and
// canonicalize.
func (c *Config) LibDefaultsFor(realm string) LibDefaults {
	if d, ok := c.realmDefaults[realm]; ok {
		return d
	}
	return c.LibDefaults
}

// Configured reports whether the file names a realm: in [realms], as default_realm, or in
// [domain_realm].
func (c *Config) Configured(realm string) bool {
	_, block := c.Realms[realm]
	return block || realm == c.LibDefaults.DefaultRealm || slices.Contains(slices.Collect(maps.Values(c.DomainRealm)), realm)
}

// newConfig reads the typed view out of a tree.
func newConfig(profile *Section, files []string, warnings []error) (*Config, error) {
	c := &Config{
		Realms:        make(map[string]Realm),
		DomainRealm:   make(map[string]string),
		CAPaths:       make(map[string]map[string][]string),
		Profile:       profile,
		Files:         files,
		Warnings:      warnings,
		realmDefaults: make(map[string]LibDefaults),
	}
	if err := c.readLibDefaults(profile.Sub("libdefaults")); err != nil {
		return nil, err
	}
	c.readRealms(profile.Sub("realms"))
	c.readDomainRealm(profile.Sub("domain_realm"))
	c.readCAPaths(profile.Sub("capaths"))
	return c, nil
}
