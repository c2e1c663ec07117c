package config

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/gmsa"
)

// GMSA names a group managed service account of Active Directory to log in as. Domain
// controllers make its password and change it; the other credentials read it over LDAP. It is
// kept in memory only.
type GMSA struct {
	// The account's name, which ends in `$`, in the realm of `user`; `NAME$@REALM` for one
	// of another domain.
	Account string `json:"account,omitempty"`

	// The domain controllers to read the password from, in order of preference:
	// `ldaps://HOST` or `ldaps://HOST:PORT`, by names that their certificates and service
	// principals have. Default: those of `kdc` and of the realm that are named by host names,
	// else those of the DNS (SRV `_ldap._tcp`), the realm's `site` first, at port 636.
	Server []string `json:"server,omitempty"`

	// Path of a PEM file of the CAs that may sign the domain controllers' certificates.
	// Default: the system's.
	TLSCA string `json:"tls_ca,omitempty"`
}

// readGMSA reads NAME$ and a block.
func (c *Credentials) readGMSA(d *caddyfile.Dispenser) error {
	g := new(GMSA)
	c.GMSA = g
	if !d.NextArg() {
		return d.Err("gmsa takes the account's name: gmsa NAME$ { ... }")
	}
	g.Account = d.Val()
	if d.NextArg() {
		return d.Errf("gmsa takes one name; got %s too", d.Val())
	}
	return Block{
		"server": ReadList(&g.Server),
		"tls_ca": ReadString(&g.TLSCA),
	}.Parse(d, NewPlaces(d))
}

// check checks what the text alone shows; nil is valid.
func (g *GMSA) check() error {
	if g == nil {
		return nil
	}
	name, _, _ := strings.Cut(g.Account, "@")
	if !strings.HasSuffix(name, "$") || strings.ContainsAny(g.Account, `/\{`) || name == "$" {
		return fmt.Errorf("%q is not the name of such an account; write NAME$, e.g. svc-web$", g.Account)
	}
	if _, err := g.servers(); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return RequireUnapproved("MD5 for channel bindings (RFC 4121, Section 4.1.1.2)", "use a keytab")
}

func (g *GMSA) servers() ([]gmsa.Server, error) {
	var all []gmsa.Server
	for _, text := range g.Server {
		s, err := gmsa.ParseServer(text)
		if err == nil {
			err = messages.CheckHostName(s.Host)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// resolveGMSA returns the managed account, which r, the account that reads its password, logs in
// for.
func (c *Credentials) resolveGMSA(r *Resolved) (*Resolved, error) {
	g, managed := c.GMSA, *r
	var err error
	if managed.Principal, err = krb5core.ParseUser(g.Account, r.Realms.UserForm("", r.Principal.Realm)); err != nil {
		return nil, err
	}
	if err := messages.CheckHostName(managed.Principal.Realm); err != nil {
		return nil, fmt.Errorf("realm %s: %w, so that it is not an Active Directory domain", managed.Principal.Realm, err)
	}
	managed.Reader, managed.Keytab, managed.Missing, managed.Managed, managed.Passwords = r, nil, nil, "", nil
	managed.Canonicalize = r.Canonicalize || r.Secret.Kind == negotiate.KindCCache
	managed.Secret = negotiate.ManagedSecret()
	managed.PoolKey = poolKey(managed.Principal, managed.Secret, "")
	servers, err := g.servers()
	if err != nil {
		return nil, err
	}
	if len(servers) == 0 {
		servers = namedControllers(r.Realms.Named(r.Principal.Realm, r.Servers)[managed.Principal.Realm])
	}
	managed.Directory = &gmsa.Directory{Dialer: r.Sockets.Dialer(), Servers: func(ctx context.Context) ([]gmsa.Server, error) {
		if len(servers) > 0 {
			return servers, nil
		}
		return r.Realms.controllers(ctx, managed.Principal.Realm)
	}}
	if g.TLSCA == "" {
		return &managed, nil
	}
	path, err := filepath.Abs(g.TLSCA)
	if err != nil {
		return nil, err
	}
	managed.Directory.RootCAs = x509.NewCertPool()
	if err := addCertificates(managed.Directory.RootCAs, path, path); err != nil {
		return nil, fmt.Errorf("tls_ca: %w", err)
	}
	return &managed, nil
}

// namedControllers returns the KDCs, which are domain controllers, that the configuration names by
// host names.
func namedControllers(kdcs []kdc.Server) (all []gmsa.Server) {
	for _, k := range kdcs {
		if _, err := netip.ParseAddr(k.Host); err != nil && k.Scheme != kdc.SchemeHTTPS {
			all = append(all, gmsa.Server{Host: k.Host, Port: gmsa.DefaultPort})
		}
	}
	return all
}

// controllers looks the domain controllers of a realm up in the DNS.
func (r *RealmConfig) controllers(ctx context.Context, realm string) (all []gmsa.Server, err error) {
	if r.ldap == nil {
		return nil, errors.New("krb5.conf says dns_lookup_kdc = false; name a domain controller with server ldaps://HOST")
	}
	found, err := r.ldap.KDCs(ctx, realm)
	for _, s := range found {
		all = append(all, gmsa.Server{Host: s.Host, Port: gmsa.DefaultPort})
	}
	return all, err
}
