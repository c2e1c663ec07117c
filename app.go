package caddynegotiate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App holds what all sites share: realms, named identities, and the bounds of
// the ticket cache. It is optional: `negotiate` and `transport negotiate` work
// with credentials of their own too.
type App struct {
	// Path of a krb5.conf to take realms, KDCs and limits from, wherever
	// credentials name none of their own.
	Krb5Conf string `json:"krb5_conf,omitempty"`

	// What is known of realms, by their names.
	Realms map[string]*Realm `json:"realms,omitempty"`

	// Credentials that sites refer to by name.
	Identities map[string]*Credentials `json:"identities,omitempty"`

	// The most memory, in bytes, that tickets may take in this process. The least
	// recently used go first. Default: 256 MiB.
	TicketMemory int64 `json:"ticket_memory,omitempty"`

	// Where tickets are kept: `memory`, or `storage`: also in Caddy's storage,
	// sealed, so that a fleet and restarts share them. Default: `memory`.
	TicketStore string `json:"ticket_store,omitempty"`

	// The key that stored tickets are sealed with: 32 bytes in base64, as
	// `{env.X}` or `{file./abs}`. Identities without a keytab need it. Default:
	// derived from each identity's keytab.
	TicketStoreKey string `json:"ticket_store_key,omitempty"`

	ctx    caddy.Context
	logger *zap.Logger
	named  map[string]*account
	bound  *bound

	mu       sync.Mutex
	accounts []*account // to be logged in by Start
	started  bool
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "kerberos", New: func() caddy.Module { return new(App) }}
}

// Provision reads the files that the identities name. It talks to nobody.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.logger = ctx, ctx.Logger()
	if err := register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	for name, realm := range a.Realms {
		if realm == nil { // null: nothing is known of it but its name
			realm = new(Realm)
			a.Realms[name] = realm
		}
		if err := realm.validate(); err != nil {
			return fmt.Errorf("realm %s: %w", name, err)
		}
	}
	var err error
	if a.bound, err = a.newBound(); err != nil {
		return err
	}
	a.named = make(map[string]*account)
	for name, credentials := range a.Identities {
		if credentials == nil {
			credentials = new(Credentials)
		}
		acct, err := a.account(credentials, name)
		if err != nil {
			return fmt.Errorf("identity %s: %w", name, err)
		}
		a.named[name] = acct
	}
	a.bound.anticipate()
	return nil
}

// Validate checks the bounds.
func (a *App) Validate() error {
	if a.TicketMemory != 0 && a.TicketMemory < 1<<20 {
		return fmt.Errorf("ticket_memory: %d bytes are too few; give at least 1MiB", a.TicketMemory)
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

// Start makes the bounds take effect and logs in, in the background, whoever is
// to be logged in at start. No request depends on it.
func (a *App) Start() error {
	a.bound.enforce()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.started = true
	for _, acct := range a.accounts {
		acct.loginInBackground(a.ctx)
	}
	return nil
}

// Stop lifts the bounds. What runs in the background ends with the context.
func (a *App) Stop() error {
	a.bound.lift()
	return nil
}

// Cleanup releases the named identities, and lifts the bounds if Stop did not.
func (a *App) Cleanup() error {
	if a.bound != nil {
		a.bound.lift()
	}
	for _, acct := range a.named {
		acct.release()
	}
	return nil
}

// enlist has an account logged in by Start.
func (a *App) enlist(acct *account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.started {
		acct.loginInBackground(a.ctx)
		return
	}
	a.accounts = append(a.accounts, acct)
}

// Login says who we are: by the name of an identity that the global `kerberos`
// option defines, or by credentials of its own.
type Login struct {
	// Name of an identity of the `kerberos` app. Excludes `credentials`.
	Identity string `json:"identity,omitempty"`

	// Who we are, where no identity is named.
	Credentials *Credentials `json:"credentials,omitempty"`

	account *account
}

// provision finds the account, and shares it with whoever else has it.
func (l *Login) provision(ctx caddy.Context) error {
	warnOfNameless(ctx)
	app, err := ctx.App("kerberos")
	if err != nil {
		return err
	}
	kerberos := app.(*App)
	switch {
	case l.Identity != "" && l.Credentials != nil:
		return fmt.Errorf("identity %s is named and credentials are given; keep one of them", l.Identity)
	case l.Identity != "":
		acct, ok := kerberos.named[l.Identity]
		if !ok {
			return fmt.Errorf("identity %s is not defined; define it in the global options: kerberos { identity %s { ... } }", l.Identity, l.Identity)
		}
		l.account = acct.share()
		return nil
	case l.Credentials != nil:
		l.account, err = kerberos.account(l.Credentials, "")
		return err
	default:
		return fmt.Errorf("who are we? name an identity, or give credentials")
	}
}

// cleanup releases the account. It may be called on a half built value.
func (l *Login) cleanup() {
	if l.account != nil {
		l.account.release()
	}
}

// loginInBackground logs in unless the account says not to.
func (acct *account) loginInBackground(ctx context.Context) {
	if !acct.atStart {
		return
	}
	go func() {
		// The outcome is observed where it happens; here nobody waits for it.
		_, _ = acct.identity.Login(ctx, acct.settings)
	}()
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
