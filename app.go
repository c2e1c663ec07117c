package caddynegotiate

import (
	"cmp"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	_ "github.com/caddy-negotiate/caddy-negotiate/internal/adminapi" // admin.api.kerberos
	_ "github.com/caddy-negotiate/caddy-negotiate/internal/command"  // caddy kerberos
	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/internal/identitypool"
	"github.com/caddy-negotiate/caddy-negotiate/internal/metrics"
	"github.com/caddy-negotiate/caddy-negotiate/internal/session"
	"github.com/caddy-negotiate/caddy-negotiate/internal/ticketstore"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App has what sites share: the settings of realms, named identities, and the limits of
// the ticket cache. It is optional: `negotiate` and `transport negotiate` can have
// credentials in place.
type App struct {
	// Path of a krb5.conf to take realms, KDCs and limits from, for credentials that
	// name none. Default: as `krb5_conf` of the credentials.
	Krb5Conf string `json:"krb5_conf,omitempty"`

	// Settings of realms, by the realms' names.
	Realms map[string]*config.Realm `json:"realms,omitempty"`

	// Credentials that sites refer to by name.
	Identities map[string]*config.Credentials `json:"identities,omitempty"`

	// The most memory, in bytes, that tickets may take in this process; at least 1 MiB.
	// The least recently used tickets are evicted first. Default: 256 MiB.
	TicketMemory int64 `json:"ticket_memory,omitempty"`

	// Where tickets are kept: `memory`, or `storage`, which is memory and also Caddy's
	// storage, sealed, for fleets and restarts. Default: `memory`.
	TicketStore string `json:"ticket_store,omitempty"`

	// The key that stored tickets, and the keys of sessions, are sealed with: 32 bytes in base64,
	// as `{env.X}` or `{file./abs}`. Identities without a keytab need it. Default: derived from each
	// identity's keytab.
	TicketStoreKey string `json:"ticket_store_key,omitempty"`

	ctx    caddy.Context
	logger *zap.Logger
	env    *config.Env
	named  map[string]*identitypool.Ref
	limits *identitypool.Limits

	storeKey    []byte        // parsed; nil if there is none
	sessionKeys *session.Keys // of the blocks with session

	mu      sync.Mutex
	opened  []*identitypool.Ref // to be logged in by Start
	usage   map[string]usage    // of the named identities
	managed map[string]struct{} // names of certificates that Start has Caddy manage
	started bool
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "kerberos", New: func() caddy.Module { return new(App) }}
}

// Provision reads the files that the identities name. It sends nothing to a KDC.
func (a *App) Provision(ctx caddy.Context) (err error) {
	a.ctx, a.logger, a.managed = ctx, ctx.Logger(), make(map[string]struct{})
	if err := metrics.Register(ctx.GetMetricsRegistry(), identitypool.Process.Readings); err != nil {
		return err
	}
	if a.env, err = config.NewEnv(a.Realms, a.Krb5Conf, a.logger); err != nil {
		return err
	}
	if a.limits, err = a.newLimits(); err != nil {
		return fmt.Errorf("ticket_store: %w", err)
	}
	a.sessionKeys = session.NewKeys(ctx.Storage(), a.storeKey, a.logger)
	a.env.Run()
	a.named, a.usage = make(map[string]*identitypool.Ref), make(map[string]usage)
	for name, credentials := range a.Identities {
		credentials = cmp.Or(credentials, new(config.Credentials))
		if a.named[name], err = a.open(credentials.Resolve, name); err != nil {
			return config.PlacesOf("identity", name, credentials).Locate(fmt.Errorf("identity %s: %w", name, err))
		}
	}
	identitypool.Process.ApplyDefault(a.limits)
	return nil
}

// Validate checks the limits.
func (a *App) Validate() error {
	if a.TicketMemory != 0 && a.TicketMemory < 1<<20 {
		return fmt.Errorf("ticket_memory: %d bytes are too few; set at least 1MiB", a.TicketMemory)
	}
	switch a.TicketStore {
	case "", "memory":
		if a.TicketStoreKey != "" {
			return errors.New("ticket_store_key: there is nothing to seal without ticket_store storage")
		}
	case "storage":
	default:
		return fmt.Errorf("ticket_store: %q is none of memory, storage", a.TicketStore)
	}
	return nil
}

// Start puts the limits in force and logs in, in the background, the identities that are
// to be logged in at start. No request depends on it.
func (a *App) Start() error {
	identitypool.Process.Apply(a.limits)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.manage(); err != nil {
		return err
	}
	a.started = true
	for _, ref := range a.opened {
		ref.LoginAtStart(a.ctx)
		ref.Rotate(a.ctx)
	}
	for name, ref := range a.named {
		if u := a.usage[name]; u.initiates || !u.accepts || ref.Resolved().Reader != nil {
			ref.LoginAtStart(a.ctx)
		}
		ref.Rotate(a.ctx)
	}
	return nil
}

// usage is what the blocks of a configuration do with a named identity. One that only opens
// tickets does not log in, unless its password has to be read first.
type usage struct{ initiates, accepts bool }

// manage has Caddy obtain and renew the certificates that identities log in with.
func (a *App) manage() error {
	if len(a.managed) == 0 {
		return nil
	}
	module, err := a.ctx.App("tls")
	if err != nil {
		return err
	}
	return module.(*caddytls.TLS).Manage(a.managed)
}

// Stop reverts the limits. What runs in the background ends with the context.
func (a *App) Stop() error {
	identitypool.Process.Revert(a.limits)
	return nil
}

// Cleanup releases the named identities, and reverts the limits if Stop did not.
func (a *App) Cleanup() error {
	identitypool.Process.Revert(a.limits)
	for _, ref := range a.named {
		ref.Release()
	}
	return nil
}

// newLimits returns the limits that Start puts in force.
func (a *App) newLimits() (*identitypool.Limits, error) {
	limits := &identitypool.Limits{
		Memory: a.TicketMemory, Breakers: ticketstore.NewBreakers(a.ctx.Storage(), a.logger),
		Passwords: ticketstore.NewPasswords(a.ctx.Storage(), nil, a.logger),
	}
	if a.TicketStore != "storage" {
		return limits, nil
	}
	if a.TicketStoreKey != "" {
		text, err := config.ExpandSecret(a.TicketStoreKey)
		if err != nil {
			return nil, err
		}
		if a.storeKey, err = ticketstore.ParseKey(text); err != nil {
			return nil, err
		}
		if config.Literal(a.TicketStoreKey) {
			a.logger.Warn("plaintext key of the ticket store in the configuration: anyone who can read the configuration or the admin API can read it; " +
				"use ticket_store storage {env.NAME} or {file./absolute/path}")
		}
	}
	limits.Passwords = ticketstore.NewPasswords(a.ctx.Storage(), a.storeKey, a.logger)
	limits.Store = ticketstore.New(ticketstore.Config{
		Storage: a.ctx.Storage(), Key: a.storeKey, Logger: a.logger, Find: identitypool.Process.Find, Count: metrics.StoreOperation,
	})
	return limits, nil
}

// open opens an identity, and has it logged in by Start if it has no name. Then it is known by its
// principal.
func (a *App) open(resolve func(*config.Env) (*config.Resolved, error), name string) (*identitypool.Ref, error) {
	resolved, err := resolve(a.env)
	if err != nil {
		return nil, err
	}
	if kind := resolved.Secret.Kind; a.TicketStore == "storage" && a.TicketStoreKey == "" && kind != negotiate.KindKeytab && kind != negotiate.KindPlatform {
		return nil, fmt.Errorf("ticket_store storage needs a KEY for a %s, from which none can be derived: "+
			"ticket_store storage {env.TICKET_KEY}, with 32 bytes in base64 (openssl rand -base64 32)", kind)
	}
	if resolved.Managed != "" {
		// Provisioned here, because a certificate is looked up in what it makes.
		if _, err := a.ctx.App("tls"); err != nil {
			return nil, err
		}
	}
	ref, err := identitypool.Process.Open(resolved, name, a.logger)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if resolved.Managed != "" {
		a.managed[resolved.Managed] = struct{}{}
	}
	switch {
	case name != "": // Start decides
	case a.started:
		ref.LoginAtStart(a.ctx)
		ref.Rotate(a.ctx)
	default:
		a.opened = append(a.opened, ref)
	}
	return ref, nil
}

// openIdentity opens the identity of a block: a named one of the app, or one with
// credentials in place. The caller has checked the login.
func openIdentity(ctx caddy.Context, l *config.Login) (*identitypool.Ref, error) {
	return openFor(ctx, l, (*config.Credentials).Resolve, usage{initiates: true})
}

// openAcceptor is openIdentity for a block that opens tickets and gets none.
func openAcceptor(ctx caddy.Context, l *config.Login) (*identitypool.Ref, error) {
	return openFor(ctx, l, (*config.Credentials).ResolveAcceptor, usage{accepts: true})
}

func openFor(
	ctx caddy.Context, l *config.Login, resolve func(*config.Credentials, *config.Env) (*config.Resolved, error), use usage,
) (*identitypool.Ref, error) {
	module, err := ctx.App("kerberos")
	if err != nil {
		return nil, err
	}
	app := module.(*App)
	if l.Identity == "" {
		return app.open(func(env *config.Env) (*config.Resolved, error) { return resolve(l.Credentials, env) }, "")
	}
	ref, ok := app.named[l.Identity]
	if !ok {
		return nil, fmt.Errorf("identity %s is not defined; define it in the global options: kerberos { identity %s { ... } }", l.Identity, l.Identity)
	}
	app.use(l.Identity, use)
	return ref.Share(), nil
}

// use notes what a block does with a named identity.
func (a *App) use(name string, by usage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.usage[name]
	a.usage[name] = usage{u.initiates || by.initiates, u.accepts || by.accepts}
	if a.started && by.initiates && u.accepts && !u.initiates {
		a.named[name].LoginAtStart(a.ctx)
	}
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
