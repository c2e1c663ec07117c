package caddynegotiate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/krb5conf"
)

// Realm is what is known of a realm beforehand. All of it can be left out where
// the DNS knows it.
type Realm struct {
	// KDCs of the realm, in the forms and the order of preference that `kdc` has.
	KDC []string `json:"kdc,omitempty"`

	// Hosts that belong to the realm: `host.corp.example` for one,
	// `.corp.example` for all below.
	Domains []string `json:"domains,omitempty"`

	// The domain's NetBIOS name: what `CORP\alice` means.
	NetBIOS string `json:"netbios,omitempty"`

	// The Active Directory site whose KDCs are looked up first in the DNS.
	Site string `json:"site,omitempty"`

	// Where each setting stands in the Caddyfile. Filled in by the Caddyfile adapter.
	Origin Origin `json:"origin,omitempty"`
}

// validate checks what can be known without asking anybody.
func (r *Realm) validate() error {
	if _, err := parseServers(r.KDC); err != nil {
		return r.Origin.wrap("kdc", err)
	}
	for _, domain := range r.Domains {
		if strings.Trim(domain, ".") == "" || strings.ContainsAny(domain, "*/@: ") {
			return r.Origin.wrap("domains", fmt.Errorf("%q is no domain; write host.corp.example, or .corp.example for all below", domain))
		}
	}
	return nil
}

// atlas knows realms: by the configuration, then by krb5.conf. It is a
// krb5core.Realms.
type atlas struct {
	realms map[string]*Realm
	conf   *krb5conf.Config // nil if none was read
}

// RealmOf gives the realm of a host, empty if only a KDC can tell.
func (a atlas) RealmOf(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	best, longest := "", 0
	for name, realm := range a.realms {
		for _, domain := range realm.Domains {
			domain = strings.ToLower(domain)
			match := host == domain || strings.HasPrefix(domain, ".") && strings.HasSuffix(host, domain)
			if match && len(domain) > longest {
				best, longest = name, len(domain)
			}
		}
	}
	if best == "" && a.conf != nil && net.ParseIP(host) == nil {
		best = a.conf.RealmOf(host)
	}
	return best
}

// CAPath gives the realms between two, if krb5.conf knows.
func (a atlas) CAPath(client, server string) []string {
	if a.conf == nil {
		return nil
	}
	return a.conf.CAPath(client, server)
}

// defaultRealm is that of a bare name.
func (a atlas) defaultRealm() string {
	if a.conf == nil {
		return ""
	}
	return a.conf.LibDefaults.DefaultRealm
}

// netbios gives the realm of a domain's short name.
func (a atlas) netbios(domain string) string {
	for name, realm := range a.realms {
		if strings.EqualFold(realm.NetBIOS, domain) || strings.EqualFold(name, domain) {
			return name
		}
	}
	return ""
}

// finder tells where KDCs are: those stated for the own realm, those of the realm
// blocks, of krb5.conf, of the DNS.
func (a atlas) finder(own string, stated []kdc.Server) (kdc.Finder, error) {
	static := make(kdc.Static)
	for name, realm := range a.realms {
		servers, err := parseServers(realm.KDC)
		if err != nil {
			return nil, err
		}
		static[name] = servers
	}
	if len(stated) > 0 {
		static[own] = stated
	}
	finders := []kdc.Finder{static}
	if a.conf != nil {
		conf := make(kdc.Static)
		for name, realm := range a.conf.Realms {
			conf[name], _ = kdcsOf(realm)
		}
		finders = append(finders, conf)
	}
	if a.conf == nil || a.conf.LibDefaults.DNSLookupKDC {
		finders = append(finders, a.dns())
	}
	return kdc.First(finders...), nil
}

// srvFinders looks realms up in the DNS, each with its site.
type srvFinders struct {
	sites map[string]*kdc.SRV
	other *kdc.SRV
}

func (a atlas) dns() kdc.Finder {
	f := srvFinders{sites: make(map[string]*kdc.SRV), other: kdc.NewSRV(kdc.SRVConfig{})}
	if a.conf != nil {
		for name, realm := range a.conf.Realms {
			if realm.SiteName != "" {
				f.sites[name] = kdc.NewSRV(kdc.SRVConfig{Site: realm.SiteName})
			}
		}
	}
	for name, realm := range a.realms {
		if realm.Site != "" {
			f.sites[name] = kdc.NewSRV(kdc.SRVConfig{Site: realm.Site})
		}
	}
	return f
}

// KDCs implements kdc.Finder.
func (f srvFinders) KDCs(ctx context.Context, realm string) ([]kdc.Server, error) {
	if srv, ok := f.sites[realm]; ok {
		return srv.KDCs(ctx, realm)
	}
	return f.other.KDCs(ctx, realm)
}

// systemKrb5Conf is where MIT's and Heimdal's libraries look.
const systemKrb5Conf = "/etc/krb5.conf"

// loadKrb5Conf reads the named file, or the system's if there is one.
func loadKrb5Conf(named string) (*krb5conf.Config, error) {
	if named != "" {
		return krb5conf.Load(nil, named)
	}
	conf, err := krb5conf.Load(nil, systemKrb5Conf)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return conf, err
}
