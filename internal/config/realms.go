package config

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/krb5conf"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// Realm has the settings of one realm. All of them can be left out if the DNS has
// the same information.
type Realm struct {
	// KDCs of the realm in order of preference, in the forms that `kdc` of the
	// credentials has.
	KDC []string `json:"kdc,omitempty"`

	// Hosts that belong to the realm: `host.corp.example` for one,
	// `.corp.example` for all below.
	Domains []string `json:"domains,omitempty"`

	// The domain's NetBIOS name: `CORP` in `CORP\alice`. No other realm may have it,
	// as its NetBIOS name or as its name.
	NetBIOS string `json:"netbios,omitempty"`

	// The Active Directory site whose KDCs are looked up first in the DNS.
	Site string `json:"site,omitempty"`
}

// Check checks what the text alone shows.
func (r *Realm) Check() error {
	if _, err := parseServers(r.KDC); err != nil {
		return Setting("kdc", err)
	}
	for _, domain := range r.Domains {
		if negotiate.CheckHost(strings.TrimPrefix(domain, ".")) != nil {
			return Setting("domains", fmt.Errorf("%q is not a domain; write host.corp.example, or .corp.example for all below", domain))
		}
	}
	return nil
}

// CheckNetBIOS rejects realms that DOMAIN\name could not tell apart.
func CheckNetBIOS(realms map[string]*Realm) error {
	owners := make(map[string]string) // the realm of each NetBIOS name in capitals
	names := slices.Sorted(maps.Keys(realms))
	for _, name := range names {
		if realms[name] == nil || realms[name].NetBIOS == "" {
			continue
		}
		netbios := strings.ToUpper(realms[name].NetBIOS)
		if other, taken := owners[netbios]; taken {
			return Setting("netbios", fmt.Errorf(`%s is set for %s and for %s, so %s\alice could be of either realm; keep one of them`, netbios, other, name, netbios))
		}
		owners[netbios] = name
	}
	for _, name := range names {
		if owner, taken := owners[strings.ToUpper(name)]; taken && owner != name {
			return Setting("netbios", fmt.Errorf(`%s of realm %s is the name of realm %s, so %s\alice could be of either realm; change one of them`,
				realms[owner].NetBIOS, owner, name, name))
		}
	}
	return nil
}

// RealmConfig has the settings of all realms: those of Caddy's configuration,
// then those of a krb5.conf. It implements [krb5core.Realms] and does not change.
type RealmConfig struct {
	realms map[string]*Realm
	names  []string // of the realms, sorted
	conf   *krb5conf.Config

	kdcs kdc.Static // those that the configuration names
	srv  kdc.Finder // nil if the DNS is not to be asked
	ldap kdc.Finder // the same, of domain controllers
}

// newRealmConfig combines the realms, which have been checked, and a krb5.conf. It
// logs what is ignored of that.
func newRealmConfig(realms map[string]*Realm, conf *krb5conf.Config, logger *zap.Logger) *RealmConfig {
	r := &RealmConfig{realms: realms, names: slices.Sorted(maps.Keys(realms)), conf: conf, kdcs: make(kdc.Static)}
	sites, controllers := siteFinder{"": kdc.NewSRV(kdc.SRVConfig{})}, siteFinder{"": kdc.NewSRV(kdc.SRVConfig{Service: "ldap"})}
	for _, w := range conf.Warnings {
		logger.Warn("krb5.conf has a line that is ignored", zap.Error(w))
	}
	for name, realm := range conf.Realms {
		servers, ignored := krb5ConfServers(realm)
		for _, err := range ignored {
			logger.Warn("krb5.conf has a kdc that is ignored", zap.String("realm", name), zap.Error(err))
		}
		r.kdcs[name] = servers
		sites.add(name, kdc.SRVConfig{Site: realm.SiteName})
		controllers.add(name, kdc.SRVConfig{Service: "ldap", Site: realm.SiteName})
	}
	for name, realm := range realms {
		if servers, _ := parseServers(realm.KDC); len(servers) > 0 || r.kdcs[name] == nil {
			r.kdcs[name] = servers
		}
		sites.add(name, kdc.SRVConfig{Site: realm.Site})
		controllers.add(name, kdc.SRVConfig{Service: "ldap", Site: realm.Site})
	}
	if conf.LibDefaults.DNSLookupKDC {
		r.srv, r.ldap = sites, controllers
	}
	return r
}

// RealmOf returns the realm of a host, empty if only a KDC can tell. Of realms with
// the same domain it is the first by name.
func (r *RealmConfig) RealmOf(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	best, longest := "", 0
	for _, name := range r.names {
		for _, domain := range r.realms[name].Domains {
			domain = strings.ToLower(domain)
			match := host == domain || strings.HasPrefix(domain, ".") && strings.HasSuffix(host, domain)
			if match && len(domain) > longest {
				best, longest = name, len(domain)
			}
		}
	}
	if best == "" {
		return r.conf.RealmOf(host)
	}
	return best
}

// CAPath returns the realms between two, in order; nil if krb5.conf has no path.
func (r *RealmConfig) CAPath(client, server string) []string { return r.conf.CAPath(client, server) }

// Configured reports whether a realm block or krb5.conf names the realm.
func (r *RealmConfig) Configured(realm string) bool {
	return r.realms[realm] != nil || r.conf.Configured(realm)
}

// DefaultRealm returns the realm of names without one, empty if there is none.
func (r *RealmConfig) DefaultRealm() string { return r.conf.LibDefaults.DefaultRealm }

// NetBIOS returns the realm of a domain's short name, empty if it is unknown. Names
// of realms come first.
func (r *RealmConfig) NetBIOS(domain string) string {
	if domain == "" || r.realms[domain] != nil {
		return domain
	}
	named := func(name string) bool { return strings.EqualFold(name, domain) }
	short := func(name string) bool { return strings.EqualFold(r.realms[name].NetBIOS, domain) }
	for _, is := range []func(name string) bool{named, short} {
		if at := slices.IndexFunc(r.names, is); at >= 0 {
			return r.names[at]
		}
	}
	return ""
}

// UserForm returns how names of users are read: realm is the realm that was set
// next to the name, home that of names without a realm.
func (r *RealmConfig) UserForm(realm, home string) krb5core.UserForm {
	return krb5core.UserForm{Realm: realm, Default: home, NetBIOS: r.NetBIOS}
}

// Source returns which part of the configuration names the KDCs of a realm:
// "the realm block", "krb5.conf", or "" if the DNS is asked.
func (r *RealmConfig) Source(realm string) string {
	switch block := r.realms[realm]; {
	case block != nil && len(block.KDC) > 0:
		return "the realm block"
	case len(r.kdcs[realm]) > 0:
		return "krb5.conf"
	default:
		return ""
	}
}

// Finder returns what finds KDCs: the given servers of the account's own realm,
// those of the realm blocks, of krb5.conf, of the DNS.
func (r *RealmConfig) Finder(own string, servers []kdc.Server) kdc.Finder {
	if r.srv == nil {
		return r.Named(own, servers)
	}
	return kdc.First(r.Named(own, servers), r.srv)
}

// Named returns the realms that the configuration names, each with its KDCs if the
// configuration names these too. The given servers are those of the own realm.
func (r *RealmConfig) Named(own string, servers []kdc.Server) kdc.Static {
	named := maps.Clone(r.kdcs)
	if len(servers) > 0 || named[own] == nil {
		named[own] = servers
	}
	return named
}

// siteFinder looks servers up in the DNS, in the site of each realm; "" is for realms without one.
type siteFinder map[string]*kdc.SRV

func (f siteFinder) add(realm string, with kdc.SRVConfig) {
	if with.Site != "" {
		f[realm] = kdc.NewSRV(with)
	}
}

func (f siteFinder) KDCs(ctx context.Context, realm string) ([]kdc.Server, error) {
	return cmp.Or(f[realm], f[""]).KDCs(ctx, realm)
}
