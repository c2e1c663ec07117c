package caddynegotiate

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// What outlives a reload of the configuration.
var (
	// tickets are those of all identities.
	tickets = cache.New[*negotiate.Ticket](cache.Config{})
	// identities by the account that they are of.
	identities = caddy.NewUsagePool()
	// kdcs is what is known of the health of KDCs.
	kdcs = kdc.NewMemory()
	// poolSecret keeps passwords out of the keys of identities.
	poolSecret = func() []byte {
		b := make([]byte, 32)
		rand.Read(b) // never fails
		return b
	}()
)

// account is credentials that have been read: the identity that they are of, and
// the settings of the block that stated them.
type account struct {
	identity *negotiate.Identity
	presence *presence
	counts   *kdcMeter
	settings *negotiate.Settings
	known    atlas
	atStart  bool
	key      string
	released atomic.Bool
}

// share takes another reference to the same account.
func (acct *account) share() *account {
	// The pool has the key, because acct holds a reference.
	identities.LoadOrStore(acct.key, acct.presence)
	shared := &account{
		identity: acct.identity, presence: acct.presence, counts: acct.counts,
		settings: acct.settings, known: acct.known, atStart: acct.atStart, key: acct.key,
	}
	shared.presence.join(shared)
	return shared
}

// release gives the reference back, once.
func (acct *account) release() {
	if acct.released.CompareAndSwap(false, true) {
		acct.presence.leave(acct)
		_, _ = identities.Delete(acct.key)
	}
}

// account makes an account of credentials. It reads files and talks to nobody.
// An account without a name is known by its principal.
func (a *App) account(c *Credentials, name string) (*account, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	known, err := a.atlas(c)
	if err != nil {
		return nil, err
	}
	principal, err := c.principal(known)
	if err != nil {
		return nil, err
	}
	secret, err := c.secret(principal, known, a.logger)
	if err != nil {
		return nil, err
	}
	if err := a.checkStore(secret); err != nil {
		return nil, err
	}
	tracer, err := newTracer(c, known, principal.Realm, a.logger)
	if err != nil {
		return nil, err
	}
	client, err := c.client(known, principal.Realm, tracer, kdcs)
	if err != nil {
		return nil, err
	}
	c.tellNarrowed(client.ETypes(), principal.String(), a.logger)
	if f := c.FASTArmor; f != nil {
		warnIfOpen(a.logger, "fast_armor", f.path())
	}
	key := c.poolKey(principal, secret)
	value, _, err := identities.LoadOrNew(key, func() (caddy.Destructor, error) {
		var err error
		p := new(presence)
		p.Identity, err = negotiate.NewIdentity(negotiate.IdentityConfig{
			Key: key, Principal: principal, Secret: secret, Tickets: tickets, Observe: p.observe(observe(principal)),
		})
		return p, err
	})
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = principal.String()
	}
	acct := &account{
		identity: value.(pooled).Identity,
		presence: value.(pooled),
		counts:   tracer.counts,
		settings: negotiate.NewSettings(name, client),
		known:    known,
		atStart:  c.LoginAtStart == nil || *c.LoginAtStart,
		key:      key,
	}
	acct.presence.join(acct)
	a.enlist(acct)
	return acct, nil
}

// atlas is what the credentials know of realms.
func (a *App) atlas(c *Credentials) (atlas, error) {
	known := atlas{realms: a.Realms}
	named := c.Krb5Conf
	if named == "" {
		named = a.Krb5Conf
	}
	if named == "" && len(c.KDC) > 0 {
		return known, nil
	}
	var err error
	known.conf, err = loadKrb5Conf(named)
	if err != nil {
		return known, c.Origin.wrap("krb5_conf", err)
	}
	if known.conf != nil {
		for _, w := range known.conf.Warnings {
			a.logger.Warn("krb5.conf has something that is ignored", zap.Error(w))
		}
		for name, realm := range known.conf.Realms {
			_, odd := kdcsOf(realm)
			for _, err := range odd {
				a.logger.Warn("krb5.conf has a kdc that is ignored", zap.String("realm", name), zap.Error(err))
			}
		}
	}
	return known, nil
}

// principal finds out whose credentials they are.
func (c *Credentials) principal(known atlas) (messages.Principal, error) {
	if c.User == "" {
		return c.solePrincipal()
	}
	user, err := secretPlaceholders(c.User)
	if err != nil {
		return messages.Principal{}, c.Origin.wrap("user", err)
	}
	principal, err := krb5core.ParseUser(user, krb5core.UserForm{
		Realm: c.Realm, Default: known.defaultRealm(), NetBIOS: known.netbios,
	})
	return principal, c.Origin.wrap("user", err)
}

// solePrincipal is the one that the credential cache is of, or that the keytab is
// for, if there is but one.
func (c *Credentials) solePrincipal() (messages.Principal, error) {
	if c.CCache != "" {
		_, principal, err := c.readCCache()
		return principal, err
	}
	file, err := negotiate.ReadKeytab(c.Keytab)
	if err != nil {
		return messages.Principal{}, c.Origin.wrap("keytab", err)
	}
	switch all := file.Principals(); len(all) {
	case 0:
		return messages.Principal{}, c.Origin.wrap("keytab", fmt.Errorf("%s: holds no key; make it again with ktpass, ktutil or caddy kerberos keytab add", c.Keytab))
	case 1:
		return all[0], nil
	default:
		return messages.Principal{}, c.Origin.wrap("keytab", fmt.Errorf("%s: holds keys of %d principals (%s, %s, ...); say with user which one is meant", c.Keytab, len(all), all[0], all[1]))
	}
}

// readCCache reads the credential cache.
func (c *Credentials) readCCache() (path string, principal messages.Principal, err error) {
	name, err := negotiate.CCachePath(c.CCache)
	if err == nil {
		path, err = filepath.Abs(name)
	}
	if err != nil {
		return "", principal, c.Origin.wrap("ccache", err)
	}
	file, err := negotiate.ReadCCache(path)
	if err != nil {
		return "", principal, c.Origin.wrap("ccache", err)
	}
	return path, file.DefaultPrincipal, nil
}

// secret reads what the credentials log in with, to fail early.
func (c *Credentials) secret(principal messages.Principal, known atlas, logger *zap.Logger) (negotiate.Secret, error) {
	var none negotiate.Secret
	switch {
	case c.Keytab != "":
		path, err := filepath.Abs(c.Keytab)
		if err != nil {
			return none, c.Origin.wrap("keytab", err)
		}
		file, err := negotiate.ReadKeytab(path)
		if err != nil {
			return none, c.Origin.wrap("keytab", err)
		}
		if err := c.checkKeytab(file, principal, known); err != nil {
			return none, c.Origin.wrap("keytab", fmt.Errorf("%s: %w", c.Keytab, err))
		}
		warnIfOpen(logger, "keytab", path)
		return negotiate.KeytabSecret(path, principal), nil
	case c.CCache != "":
		path, owner, err := c.readCCache()
		if err != nil {
			return none, err
		}
		if !owner.Equal(principal) {
			return none, c.Origin.wrap("ccache", fmt.Errorf("%s: holds tickets of %s, not of %s; correct user, or leave it out", c.CCache, owner, principal))
		}
		warnIfOpen(logger, "ccache", path)
		return negotiate.CCacheSecret(path), nil
	case c.PasswordFile != "":
		path, err := filepath.Abs(c.PasswordFile)
		if err != nil {
			return none, c.Origin.wrap("password_file", err)
		}
		if _, err := negotiate.ReadPassword(path); err != nil {
			return none, c.Origin.wrap("password_file", err)
		}
		warnIfOpen(logger, "password_file", path)
		return negotiate.PasswordFileSecret(path), nil
	default:
		password, err := secretPlaceholders(c.Password)
		if err != nil {
			return none, c.Origin.wrap("password", err)
		}
		if !hasPlaceholder(c.Password) {
			logger.Warn("the password stands in the configuration, where whoever may read it or the admin endpoint sees it; "+
				"use password_file, password {env.NAME} or a keytab", zap.String("principal", principal.String()))
		}
		return negotiate.PasswordSecret(password), nil
	}
}

// checkKeytab makes sure that the keytab has a key that can be used.
func (c *Credentials) checkKeytab(file *keytab.Keytab, principal messages.Principal, known atlas) error {
	keys, err := krb5core.KeytabKeys(file, principal)
	if err != nil {
		return fmt.Errorf("%w; export it for this account, or correct user", err)
	}
	allowed, err := c.permitted(known)
	if err != nil {
		return err
	}
	held := keys.ETypes()
	if slices.ContainsFunc(held, func(id enctype.ID) bool { return slices.Contains(allowed, id) }) {
		return nil
	}
	if len(held) > 0 && !slices.ContainsFunc(held, func(id enctype.ID) bool { return !id.Weak() }) {
		return fmt.Errorf("all keys of %s are weak %v: domain controllers refuse RC4 by default since April 2026 and without a way back since July 2026 (KB5073381); "+
			"set the account's password once more after allowing AES for it, and export the keytab with AES keys (ktpass -crypto AES256-SHA1)", principal, held)
	}
	return fmt.Errorf("no key of %s is of an allowed type: the keytab has %v, encryption_types allows %v", principal, held, allowed)
}

// client makes what asks the KDCs.
func (c *Credentials) client(known atlas, realm string, tracer krb5core.Tracer, memory *kdc.Memory) (*krb5core.Client, error) {
	servers, err := c.servers()
	if err != nil {
		return nil, c.Origin.wrap("kdc", err)
	}
	finder, err := known.finder(realm, servers)
	if err != nil {
		return nil, err
	}
	options, err := c.KDCOptions.options()
	if err != nil {
		return nil, c.Origin.wrap("kdc_options", err)
	}
	if err := known.limitSockets(&options, realm); err != nil {
		return nil, c.Origin.wrap("krb5_conf", err)
	}
	etypes, err := c.permitted(known)
	if err != nil {
		return nil, c.Origin.wrap("encryption_types", err)
	}
	armor, err := c.armor(known)
	if err != nil {
		return nil, err
	}
	sender, err := kdc.NewSender(kdc.Config{Finder: finder, Options: options, Memory: memory, Observer: tracer})
	if err != nil {
		return nil, c.Origin.wrap("kdc_options", err)
	}
	cfg := krb5core.Config{
		Sender: sender, Finder: finder, TCPOnly: c.UseTCP, ETypes: etypes,
		Timeout: time.Duration(c.Timeout), Realms: known, Tracer: tracer, Armor: armor,
	}
	known.limit(&cfg, realm)
	return krb5core.NewClient(cfg)
}

// poolKey tells accounts apart: by principal, realm and where the keys come from.
func (c *Credentials) poolKey(principal messages.Principal, secret negotiate.Secret) string {
	mac := hmac.New(sha256.New, poolSecret)
	mac.Write([]byte(secret.Path))
	if secret.Kind == negotiate.KindCCache {
		// The cache may change hands; the identity follows it.
		return fmt.Sprintf("%s %x", secret.Kind, mac.Sum(nil)[:16])
	}
	if secret.Path == "" {
		password, _ := secretPlaceholders(c.Password)
		mac.Write([]byte(password))
	}
	return fmt.Sprintf("%s %d %s %x", principal, principal.Name.NameType, secret.Kind, mac.Sum(nil)[:16])
}

// warnIfOpen warns of a secret that others can read.
func warnIfOpen(logger *zap.Logger, setting, path string) {
	if runtime.GOOS == "windows" {
		return // its mode bits say nothing about who may read a file
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		logger.Warn("others than the owner can read this secret; chmod 600 it",
			zap.String("setting", setting), zap.String("path", path), zap.Stringer("mode", info.Mode().Perm()))
	}
}
