package caddynegotiate

import (
	"context"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// who is an account that is checked: an identity of its own, with a cache of its
// own, so that nothing is shared with a running Caddy.
type who struct {
	name        string // empty for credentials that stand where they are used
	credentials *Credentials
	sites       []*site

	known     atlas
	principal messages.Principal
	secret    negotiate.Secret

	probe    *probe
	client   *krb5core.Client
	settings *negotiate.Settings
	tickets  *negotiate.Tickets
	identity *negotiate.Identity
}

// read reads the files, as Caddy does when it loads the configuration.
func (w *who) read(app *App, logger *zap.Logger) (err error) {
	reader := &App{Krb5Conf: app.Krb5Conf, Realms: app.Realms, logger: logger}
	if err = w.credentials.validate(); err != nil {
		return err
	}
	if w.known, err = reader.atlas(w.credentials); err != nil {
		return err
	}
	if w.principal, err = w.credentials.principal(w.known); err != nil {
		return err
	}
	w.secret, err = w.credentials.secret(w.principal, w.known, logger)
	return err
}

// prepare makes what asks the KDCs.
func (w *who) prepare() (err error) {
	w.probe = new(probe)
	if w.client, err = w.credentials.client(w.known, w.principal.Realm, w.probe, kdc.NewMemory()); err != nil {
		return err
	}
	w.tickets = cache.New[*negotiate.Ticket](cache.Config{})
	w.settings = negotiate.NewSettings(w.title(), w.client)
	w.identity, err = negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: "check", Principal: w.principal, Secret: w.secret, Tickets: w.tickets,
	})
	return err
}

// is tells whether the account goes by the name.
func (w *who) is(name string, app *App) bool {
	if w.name == name {
		return true
	}
	_ = w.read(app, zap.NewNop()) // the principal comes first, and that is all that matters here
	return w.principal.String() == name || w.credentials.User == name
}

// title is what the report calls the account.
func (w *who) title() string {
	switch {
	case w.name != "" && w.credentials.User != "":
		return "identity " + w.name + " (" + w.credentials.User + ")"
	case w.name != "":
		return "identity " + w.name
	case w.credentials.User != "":
		return w.credentials.User
	default:
		return w.credentials.Keytab + w.credentials.CCache
	}
}

// probe is a krb5core.Tracer that remembers what a check wants to tell.
type probe struct {
	mu     sync.Mutex
	events []exchange.Event
	kvno   uint32 // of the key that the KDC encrypted its last AS-REP with; 0 if it named none
	etype  enctype.ID
}

// ObserveMessage implements kdc.Observer.
func (p *probe) ObserveMessage(_ context.Context, m kdc.MessageEvent) {
	if m.Direction != kdc.Received || m.Err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if reply, err := messages.ParseKDCRep(m.Data); err == nil && reply.MsgType == messages.KRB_AS_REP {
		p.kvno, p.etype = reply.EncPart.KVNO, reply.EncPart.EType
	}
}

// ObserveDecision implements kdc.Observer.
func (p *probe) ObserveDecision(context.Context, kdc.Decision) {}

// ObserveExchange implements krb5core.Tracer.
func (p *probe) ObserveExchange(_ context.Context, _ krb5core.Op, e exchange.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, e)
}

// last gives the last event of a type.
func last[E exchange.Event](p *probe) (event E, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range slices.Backward(p.events) {
		if event, found = e.(E); found {
			return event, true
		}
	}
	return event, false
}
