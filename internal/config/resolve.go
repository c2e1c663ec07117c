package config

import (
	"cmp"
	"crypto/fips140"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/krb5conf"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/gmsa"
)

// Env is what the credentials of one configuration share. Each krb5.conf is read
// once.
type Env struct {
	realms   map[string]*Realm
	krb5Conf string
	logger   *zap.Logger

	running bool // see Run

	mu      sync.Mutex
	configs map[string]*RealmConfig // by the krb5.conf's name
}

// NewEnv checks the realms of the kerberos app. A nil realm has no settings.
// krb5Conf is the file for credentials that name none, empty for the system's.
func NewEnv(realms map[string]*Realm, krb5Conf string, logger *zap.Logger) (*Env, error) {
	env := &Env{realms: make(map[string]*Realm), krb5Conf: krb5Conf, logger: logger, configs: make(map[string]*RealmConfig)}
	for name, realm := range realms {
		realm = cmp.Or(realm, new(Realm))
		if err := realm.Check(); err != nil {
			return nil, PlacesOf("realm", name, realm).Locate(fmt.Errorf("realm %s: %w", name, err))
		}
		env.realms[name] = realm
	}
	return env, CheckNetBIOS(env.realms)
}

// realmConfig returns the realms with the krb5.conf of the credentials. If these
// set kdc and no file is named, none is read.
func (env *Env) realmConfig(c *Credentials) (*RealmConfig, error) {
	env.mu.Lock()
	defer env.mu.Unlock()
	name := cmp.Or(c.Krb5Conf, env.krb5Conf)
	if name == "" && len(c.KDC) > 0 {
		conf, err := krb5conf.Parse(nil)
		return newRealmConfig(env.realms, conf, env.logger), err
	}
	if known := env.configs[name]; known != nil {
		return known, nil
	}
	conf, err := loadKrb5Conf(name)
	if err != nil {
		return nil, err
	}
	env.configs[name] = newRealmConfig(env.realms, conf, env.logger)
	return env.configs[name], nil
}

// Resolved is credentials whose files have been read and whose names have been
// parsed. It does not change.
type Resolved struct {
	Principal messages.Principal
	UserSet   bool // the configuration names the account, rather than its file
	Secret    negotiate.Secret
	Keytab    *keytab.Keytab // as it was read; nil for other secrets
	Missing   error          // why the credential cache cannot be used yet; nil if it can

	// Reader is the account that reads the password of a group managed service account, and
	// Directory where; both are nil for other accounts.
	Reader    *Resolved
	Directory *gmsa.Directory

	Realms  *RealmConfig
	Servers []kdc.Server // those that the credentials name for the account's realm
	Finder  kdc.Finder   // of all realms
	// Passwords finds the servers that change passwords; nil if none is to be changed.
	Passwords kdc.Finder
	Sockets   kdc.Options

	ETypes       []enctype.ID    // in order of preference
	Armor        *krb5core.Armor // nil without fast_armor
	PKINIT       krb5core.PKINITConfig
	Managed      string // the name of the certificate that Caddy is to manage, empty for none
	TCPOnly      bool
	Timeout      time.Duration // of one acquisition of a ticket; 0 is the default
	LoginAtStart bool

	// Lifetime and MaxSkew are krb5.conf's, as in krb5core.Config.
	Lifetime, MaxSkew time.Duration
	Canonicalize      bool // false for a ccache and for the platform, which never log in

	kcmSocket       string       // krb5.conf's, with ccache
	passwordServers []kdc.Server // kpasswd_server

	acceptor bool // see ResolveAcceptor

	Trace        bool
	TracePackets string // absolute path of the file for raw messages, empty for none

	// PoolKey is equal for credentials of one account and one source of keys. It
	// does not reveal a password, and is valid in this process only.
	PoolKey string
}

// Resolve reads the files of the credentials and checks all that does not take a
// KDC.
func (c *Credentials) Resolve(env *Env) (*Resolved, error) { return c.resolve(env, new(Resolved)) }

// ResolveAcceptor is Resolve for an account that opens tickets and does not log in: of
// several principals in a keytab none has to be chosen.
func (c *Credentials) ResolveAcceptor(env *Env) (*Resolved, error) {
	return c.resolve(env, &Resolved{acceptor: true})
}

func (c *Credentials) resolve(env *Env, r *Resolved) (*Resolved, error) {
	r.acceptor = r.acceptor && c.GMSA == nil // the account that reads the password logs in, and so does the managed one
	r.TCPOnly, r.Trace, r.UserSet = c.UseTCP, c.Trace, c.User != ""
	r.LoginAtStart = !r.acceptor && !c.Platform && (c.LoginAtStart == nil || *c.LoginAtStart)
	err := c.parse(r)
	if err != nil {
		return nil, err
	}
	if r.Realms, err = env.realmConfig(c); err != nil {
		return nil, Setting("krb5_conf", err)
	}
	if err := r.resolveETypes(); err != nil {
		return nil, Setting("encryption_types", err)
	}
	if err := c.resolveAccount(r, env); err != nil {
		return nil, err
	}
	r.Finder = r.Realms.Finder(r.Principal.Realm, r.Servers)
	c.resolveRotation(r, env)
	if err := c.KDCOptions.resolve(&r.Sockets, env.logger.With(zap.Stringer("principal", r.Principal))); err != nil {
		return nil, Setting("kdc_options", err)
	}
	if err := r.resolveLimits(c.Canonicalize); err != nil {
		return nil, Setting("krb5_conf", err)
	}
	if r.Armor, err = c.resolveArmor(r, env); err != nil {
		return nil, Setting("fast_armor", err)
	}
	if r.PKINIT, err = c.resolvePKINIT(); err != nil {
		return nil, Setting("kdc_options", err)
	}
	if c.TracePackets != "" {
		if r.TracePackets, err = filepath.Abs(c.TracePackets); err != nil {
			return nil, Setting("trace", err)
		}
	}
	if fips140.Enforced() && len(c.EncryptionTypes) == 0 {
		env.logger.Info("FIPS 140 is enforced: no AES-SHA1, Camellia or SPAKE",
			zap.Stringer("principal", r.Principal), zap.Stringers("encryption_types", r.ETypes))
	}
	if c.GMSA == nil {
		return r, nil
	}
	managed, err := c.resolveGMSA(r)
	return managed, Setting("gmsa", err)
}

// resolveETypes sets the default, as far as krb5.conf permits it, if no types are
// configured.
func (r *Resolved) resolveETypes() (err error) {
	switch permitted := r.Realms.conf.LibDefaults.PermittedEnctypes; {
	case len(r.ETypes) > 0:
		err = checkApproved(r.ETypes)
	case permitted != nil:
		r.ETypes, err = permittedTypes(permitted)
	default:
		r.ETypes = enctype.Strong()
	}
	return err
}

// While FIPS 140 is enforced (GODEBUG=fips140=only), settings that need an
// algorithm that FIPS 140 does not approve are rejected by name when the
// configuration is loaded, and defaults are narrowed. Enforcement is never
// switched off.

// checkApproved rejects configured encryption types that may not be used.
func checkApproved(ids []enctype.ID) error {
	for _, id := range ids {
		if fips140.Enforced() && !id.Approved() {
			return fmt.Errorf("%s is %w, which GODEBUG=fips140=only enforces: name %s or %s, and give account, service and krbtgt such keys",
				id, enctype.ErrNotApproved, enctype.AES256_CTS_HMAC_SHA384_192, enctype.AES128_CTS_HMAC_SHA256_128)
		}
	}
	return nil
}

// RequireUnapproved returns an error for a setting that needs an algorithm that
// may not be used; remedy says what to do instead.
func RequireUnapproved(algorithm, remedy string) error {
	if !fips140.Enforced() {
		return nil
	}
	return fmt.Errorf("needs %s, %w, which GODEBUG=fips140=only enforces; %s", algorithm, enctype.ErrNotApproved, remedy)
}

// resolveLimits takes the limits of krb5.conf that the credentials do not set.
func (r *Resolved) resolveLimits(canonicalize *bool) error {
	d := r.Realms.conf.LibDefaultsFor(r.Principal.Realm)
	r.Timeout = cmp.Or(r.Timeout, d.RequestTimeout)
	r.Lifetime, r.MaxSkew = d.TicketLifetime, d.ClockSkew
	r.Canonicalize = r.Secret.Kind != negotiate.KindCCache && r.Secret.Kind != negotiate.KindPlatform && *cmp.Or(canonicalize, d.Canonicalize, new(true))
	return applySocketDefaults(&r.Sockets, r.Realms.conf, r.Principal.Realm)
}

// Title names the account: its principal, or the credential cache that has none yet.
func (r *Resolved) Title() string {
	if len(r.Principal.Name.NameString) == 0 {
		return cmp.Or(r.Secret.Path, string(r.Secret.Kind))
	}
	return r.Principal.String()
}

// NewClient returns a client for the account's KDCs. The tracer may be nil; memory
// keeps the health of KDCs.
func (r *Resolved) NewClient(tracer krb5core.Tracer, memory *kdc.Memory) (*krb5core.Client, error) {
	sender, err := kdc.NewSender(kdc.Config{Finder: r.Finder, Options: r.Sockets, Memory: memory, Observer: tracer})
	if err != nil {
		return nil, Setting("kdc_options", err)
	}
	var passwords *kdc.Sender
	if r.Passwords != nil {
		if passwords, err = kdc.NewSender(kdc.Config{Finder: r.Passwords, Options: r.Sockets, Memory: memory, Observer: tracer}); err != nil {
			return nil, Setting("kdc_options", err)
		}
	}
	return krb5core.NewClient(krb5core.Config{
		Passwords: passwords,
		Sender:    sender, Finder: r.Finder, TCPOnly: r.TCPOnly, ETypes: r.ETypes,
		Timeout: r.Timeout, Lifetime: r.Lifetime, MaxSkew: r.MaxSkew, Canonicalize: r.Canonicalize,
		Realms: r.Realms, Armor: r.Armor, PKINIT: r.PKINIT, Tracer: tracer,
	})
}
