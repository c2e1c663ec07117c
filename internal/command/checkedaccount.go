package command

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// checkedAccount is an account under check. It resolves as in the server, and has an identity and
// a cache of its own, so that it shares nothing with a running Caddy.
type checkedAccount struct {
	name        string // empty for credentials that a block contains
	credentials *config.Credentials
	uses        []*use

	resolved *config.Resolved
	err      error // why it could not be resolved
	warnings []observer.LoggedEntry

	observer  *loginObserver
	tickets   *negotiate.Tickets
	initiator *negotiate.Initiator
	evidence  *messages.Credential // of the user of --user, once they have signed in
	reader    *checkedAccount      // that reads the password of a group managed service account; else nil
}

// accounts resolves the accounts of the configuration, the named identities first, then those of
// credentials in blocks, and joins them with their uses. Its error is about the kerberos app.
func (d *document) accounts() (all []*checkedAccount, err error) {
	core, warnings := observer.New(zap.WarnLevel)
	env, err := config.NewEnv(d.app.Realms, d.app.Krb5Conf, zap.New(core))
	if err != nil {
		return nil, err
	}
	named := make(map[string]*checkedAccount)
	for _, name := range slices.Sorted(maps.Keys(d.app.Identities)) {
		a := &checkedAccount{name: name, credentials: cmp.Or(d.app.Identities[name], new(config.Credentials))}
		named[name] = a
		all = append(all, a)
	}
	for _, u := range d.uses {
		var login config.Login
		_ = json.Unmarshal(u.raw, &login) // loading the module reports the error
		a := named[login.Identity]
		if a == nil && login.Credentials != nil {
			a = &checkedAccount{credentials: login.Credentials}
			all = append(all, a)
		}
		if u.account = a; a != nil {
			a.uses = append(a.uses, u)
		}
	}
	for _, a := range all {
		a.resolve(env)
		a.warnings = warnings.TakeAll()
	}
	return all, nil
}

// resolve reads the credentials' files and makes the identity. It sends nothing.
func (a *checkedAccount) resolve(env *config.Env) {
	resolve := a.credentials.Resolve
	if a.name == "" && a.onlyAccepts() {
		resolve = a.credentials.ResolveAcceptor
	}
	if a.resolved, a.err = resolve(env); a.err == nil {
		a.err = a.open()
	}
}

// open makes the identity.
func (a *checkedAccount) open() error {
	a.observer, a.tickets = new(loginObserver), cache.New[*negotiate.Ticket](cache.Config{})
	client, err := a.resolved.NewClient(a.observer, kdc.NewMemory())
	if err != nil {
		return err
	}
	identity, err := negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: "check", Principal: a.resolved.Principal, Secret: a.resolved.Secret, Tickets: a.tickets,
	})
	if err != nil {
		return err
	}
	settings := negotiate.NewSettings(a.title(), client)
	if a.resolved.Reader != nil {
		a.reader = &checkedAccount{credentials: a.credentials, resolved: a.resolved.Reader}
		if err := a.reader.open(); err != nil {
			return err
		}
		settings.Passwords = &negotiate.PasswordReader{Reader: a.reader.initiator, Directory: a.resolved.Directory}
	}
	a.initiator = identity.Initiator(settings)
	return nil
}

func (a *checkedAccount) identity() *negotiate.Identity { return a.initiator.Identity() }

// is reports whether the account has the name, as an identity or as a principal.
func (a *checkedAccount) is(name string) bool {
	return a.name == name || a.credentials.User == name || a.resolved != nil && a.resolved.Principal.String() == name
}

// selected reports whether the account is one that --identity names.
func (c *check) selected(a *checkedAccount) bool {
	return c.identity == "" || a.is(c.identity)
}

// title is what the report calls the account.
func (a *checkedAccount) title() string {
	switch c := a.credentials; {
	case c.GMSA != nil && a.name == "":
		return c.GMSA.Account
	case c.GMSA != nil:
		return "identity " + a.name + " (" + c.GMSA.Account + ")"
	case a.name == "":
		return cmp.Or(c.User, c.Keytab+c.CCache+c.Certificate.String(), string(negotiate.KindPlatform))
	case c.User == "":
		return "identity " + a.name
	default:
		return "identity " + a.name + " (" + c.User + ")"
	}
}

// kdcSource describes which part of the configuration names the KDCs.
func (a *checkedAccount) kdcSource() string {
	if len(a.resolved.Servers) > 0 {
		return "by kdc"
	}
	return "by " + cmp.Or(a.resolved.Realms.Source(a.resolved.Principal.Realm), "DNS")
}

// weakOnly reports whether the keytab has no key of the account but weak ones.
func (a *checkedAccount) weakOnly() bool {
	if a.resolved == nil || a.resolved.Keytab == nil {
		return false
	}
	keys := a.resolved.Keytab.Keys(a.resolved.Principal)
	return len(keys) > 0 && !slices.ContainsFunc(keys, func(e keytab.Entry) bool {
		id := e.Key.EType()
		return id.Supported() && !id.Weak()
	})
}

// loginObserver is a krb5core.Tracer that keeps what the report of a login shows.
type loginObserver struct {
	mu    sync.Mutex
	key   exchange.KeyChosen
	kvno  uint32 // of the key that the KDC encrypted its last AS-REP with; 0 if it named none
	etype enctype.ID
	kdc   *exchange.KDCCertificate // nil unless the login was by certificate
}

func (o *loginObserver) ObserveMessage(_ context.Context, m kdc.MessageEvent) {
	if m.Direction != kdc.Received || m.Err != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if reply, err := messages.ParseKDCRep(m.Data); err == nil && reply.MsgType == messages.KRB_AS_REP {
		o.kvno, o.etype = reply.EncPart.KVNO, reply.EncPart.EType
	}
}

func (o *loginObserver) ObserveDecision(context.Context, kdc.Decision) {}

func (o *loginObserver) ObserveExchange(_ context.Context, _ krb5core.Op, e exchange.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch e := e.(type) {
	case exchange.KeyChosen:
		o.key = e
	case exchange.KDCCertificate:
		o.kdc = &e
	}
}

// certificate returns that of the KDC, nil if it proved none.
func (o *loginObserver) certificate() *exchange.KDCCertificate {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.kdc
}

// login returns the key that the last login chose, and the version and type of the KDC's key.
func (o *loginObserver) login() (key exchange.KeyChosen, kvno uint32, etype enctype.ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.key, o.kvno, o.etype
}
