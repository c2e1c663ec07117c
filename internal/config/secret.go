package config

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/krb5conf"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/gmsa"
)

// resolveAccount determines the principal, reads the secret, so that mistakes show
// early, and checks that it is the principal's.
func (c *Credentials) resolveAccount(r *Resolved, env *Env) error {
	if c.User != "" {
		user, err := ExpandSecret(c.User)
		if err == nil {
			r.Principal, err = krb5core.ParseUser(user, r.Realms.UserForm(c.Realm, r.Realms.DefaultRealm()))
		}
		if err != nil {
			return Setting("user", err)
		}
	}
	var setting, password string
	var err error
	switch {
	case c.Keytab != "":
		setting, err = "keytab", c.resolveKeytab(r)
	case c.CCache != "":
		setting, err = "ccache", c.resolveCCache(r, env)
	case c.Certificate != nil:
		setting, err = "certificate", c.resolveCertificate(r, env)
	case c.Platform:
		setting, err = "platform", c.resolvePlatform(r)
	case c.PasswordFile != "":
		setting, err = "password_file", c.resolvePasswordFile(r)
	default:
		password, err = ExpandSecret(c.Password)
		setting, r.Secret = "password", negotiate.PasswordSecret(password)
	}
	if err != nil {
		return Setting(setting, err)
	}
	if every := time.Duration(c.RotatePassword); every > 0 {
		r.Secret.RotateEvery = max(every-every/rotateAhead, 1)
	}
	r.PoolKey = poolKey(r.Principal, r.Secret, password+r.kcmSocket)
	switch {
	case c.CCache != "", c.Certificate != nil, c.Platform:
	case r.Secret.Path != "":
		warnOfReadable(env.logger, setting, r.Secret.Path)
	case Literal(c.Password):
		env.logger.Warn("plaintext password in the configuration: anyone who can read the configuration or the admin API can read it; "+
			"use password_file, password {env.NAME} or a keytab", zap.Stringer("principal", r.Principal))
	}
	return nil
}

func (c *Credentials) resolveKeytab(r *Resolved) error {
	path, file, err := r.readKeytab(c.Keytab, &r.Principal, "name one of them with user")
	r.Keytab, r.Secret = file, negotiate.KeytabSecret(path, r.Principal)
	return err
}

// resolveCCache opens the cache and takes its principal. One that is filled after Caddy has
// started does not keep Caddy from starting, if the realm is known.
func (c *Credentials) resolveCCache(r *Resolved, env *Env) error {
	source, err := c.openCCache(c.CCache, r, env)
	if err != nil {
		return err
	}
	r.Secret = negotiate.CCacheSecret(source)
	if c.User != "" {
		r.Secret = negotiate.PinnedCCacheSecret(source, r.Principal)
	}
	ctx, cancel := r.readContext()
	defer cancel()
	cache, err := source.Read(ctx, r.Principal)
	if err == nil && c.User != "" && !cache.DefaultPrincipal.Equal(r.Principal) {
		err = negotiate.OtherOwner(cache.Name, cache.DefaultPrincipal, r.Principal)
	}
	switch {
	case err == nil:
		r.Principal = cache.DefaultPrincipal
		warnOfReadable(env.logger, "ccache", strings.TrimPrefix(cache.Name, "DIR::"))
		return nil
	case !source.Late():
		return err
	case c.User == "":
		if r.Principal.Realm = cmp.Or(c.Realm, r.Realms.DefaultRealm()); r.Principal.Realm == "" {
			return fmt.Errorf("%w; to start without it, set user, or realm", err)
		}
	}
	r.Missing = fmt.Errorf("%w: %w", negotiate.ErrCCache, err)
	return nil
}

// openCCache opens a cache by its name; default is that of KRB5CCNAME, krb5.conf or the system.
func (c *Credentials) openCCache(name string, r *Resolved, env *Env) (ccache.Source, error) {
	if kind, _, _ := strings.Cut(name, ":"); name != defaultCCache && !strings.EqualFold(kind, "KCM") {
		return ccache.Open(name, ccache.Options{})
	}
	conf, err := env.ccacheSettings(c, r)
	if err != nil {
		return nil, err
	}
	r.kcmSocket = conf.KCMSocket
	options := ccache.Options{KCMSocket: conf.KCMSocket}
	if name != defaultCCache {
		return ccache.Open(name, options)
	}
	if name, err = ccache.DefaultName(conf.DefaultCCacheName); err != nil {
		return nil, err
	}
	source, err := ccache.Open(name, options)
	if err != nil {
		return nil, fmt.Errorf("default is %w", err)
	}
	return source, nil
}

// defaultCCache is the name of what is configured outside of Caddy.
const defaultCCache = "default"

// ccacheSettings returns the settings of krb5.conf for caches. Where kdc takes the place of
// the system's krb5.conf, that one still says which caches the system has.
func (env *Env) ccacheSettings(c *Credentials, r *Resolved) (krb5conf.LibDefaults, error) {
	if len(c.KDC) == 0 || cmp.Or(c.Krb5Conf, env.krb5Conf) != "" {
		return r.Realms.conf.LibDefaults, nil
	}
	conf, err := loadKrb5Conf("")
	if err != nil {
		return krb5conf.LibDefaults{}, err
	}
	return conf.LibDefaults, nil
}

// readContext bounds the reading of a cache when the configuration is loaded.
func (r *Resolved) readContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), cmp.Or(r.Timeout, krb5core.DefaultTimeout))
}

func (c *Credentials) resolvePasswordFile(r *Resolved) error {
	path, err := filepath.Abs(c.PasswordFile)
	if err != nil {
		return err
	}
	r.Secret = negotiate.PasswordFileSecret(path)
	_, err = secretfile.ReadPassword(path)
	return err
}

// poolSecret keeps passwords out of pool keys.
var poolSecret = []byte(rand.Text())

// poolKey identifies an account by principal, realm and source of keys.
// more is what else the keys depend on.
func poolKey(principal messages.Principal, secret negotiate.Secret, more string) string {
	if secret.Kind == negotiate.KindPlatform {
		return string(secret.Kind) // a process has one account, which may become another
	}
	mac := hmac.New(sha256.New, poolSecret)
	mac.Write([]byte(secret.Path + more))
	if secret.RotateEvery > 0 { // it is changed, or was begun to be, by the identity that has it
		mac.Write([]byte(secret.RotateEvery.String()))
	}
	if secret.Kind == negotiate.KindCCache && secret.Pinned.IsZero() {
		// The cache may get another owner, and the identity follows it.
		return fmt.Sprintf("%s %x", secret.Kind, mac.Sum(nil)[:16])
	}
	return fmt.Sprintf("%s %d %s %x", principal, principal.Name.NameType, secret.Kind, mac.Sum(nil)[:16])
}

// readKeytab reads a keytab, which must have a usable key of the principal. A zero
// principal becomes the keytab's only one; remedy says how to choose among several.
func (r *Resolved) readKeytab(name string, principal *messages.Principal, remedy string) (path string, file *keytab.Keytab, err error) {
	if path, err = filepath.Abs(name); err != nil {
		return "", nil, err
	}
	if file, err = negotiate.ReadKeytab(path); err != nil {
		return "", nil, err
	}
	if len(principal.Name.NameString) == 0 {
		all := file.Principals()
		switch {
		case len(all) == 0:
			return "", nil, fmt.Errorf("%s: has no key; create it again with ktpass, ktutil or caddy kerberos keytab add", path)
		case len(all) == 1:
			*principal = all[0]
		case r.acceptor:
			*principal = firstService(all)
		default:
			return "", nil, fmt.Errorf("%s: has keys of %d principals (%s, %s, ...); %s", path, len(all), all[0], all[1], remedy)
		}
	}
	if err := checkKeytab(file, *principal, r.ETypes); err != nil {
		return "", nil, fmt.Errorf("%s: %w", path, err)
	}
	return path, file, nil
}

// checkKeytab makes sure that the keytab has a key of the principal that may be
// used.
func checkKeytab(file *keytab.Keytab, principal messages.Principal, allowed []enctype.ID) error {
	keys, err := krb5core.KeytabKeys(file, principal)
	if err != nil {
		for _, p := range file.Principals() {
			if p.Name.Equal(principal.Name) && !strings.Contains(principal.Realm, ".") {
				return fmt.Errorf(`%w; is %s the short (NetBIOS) name of %s? Write user %s, or tell what %s\... means: realm %s { netbios %s } in the global option kerberos`,
					err, principal.Realm, p.Realm, p, principal.Realm, p.Realm, principal.Realm)
			}
		}
		return fmt.Errorf("%w; export it for this account, or fix user", err)
	}
	held := keys.ETypes()
	if slices.ContainsFunc(held, func(id enctype.ID) bool { return slices.Contains(allowed, id) }) {
		return nil
	}
	if len(held) > 0 && !slices.ContainsFunc(held, func(id enctype.ID) bool { return !id.Weak() }) {
		return fmt.Errorf("all keys of %s are weak %v: %w", principal, held, ErrWeakKeys)
	}
	return fmt.Errorf("no key of %s is of an allowed type: the keytab has %v, encryption_types allows %v", principal, held, allowed)
}

// ErrWeakKeys is wrapped by errors about a keytab whose keys of the principal are all weak.
var ErrWeakKeys = errors.New("domain controllers reject RC4 by default since April 2026, and in any case since July 2026 (KB5073381); " +
	"allow AES for the account, set its password again, and export the keytab with AES keys (ktpass -crypto AES256-SHA1)")

// warnOfReadable warns of a secret that other users can read.
func warnOfReadable(logger *zap.Logger, setting, path string) {
	if exposure := secretfile.Readable(path); exposure != nil {
		logger.Warn("file holds a secret and is readable by other users: "+exposure.Remedy,
			zap.String("setting", setting), zap.String("path", path), zap.String("mode", exposure.Mode))
	}
}

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
