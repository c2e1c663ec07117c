package negotiate

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// errOtherPrincipal is for a ticket whose credential cache got another principal while
// it was fetched: it must not be kept as the other's.
var errOtherPrincipal = errors.New("the credential cache has another principal now")

// policy fetches a ticket by get, and makes sure that it belongs under the key.
func (i *Initiator) policy(key cache.Key, get func(context.Context) (*Ticket, error)) cache.Policy[*Ticket] {
	return cache.Policy[*Ticket]{
		Timeout: i.settings.Client.Timeout(),
		Fetch: func(ctx context.Context) (*Ticket, error) {
			ticket, err := get(ctx)
			if !i.id.Owns(key) || err == nil && !i.id.Belongs(key, ticket) {
				return nil, uncached(errOtherPrincipal)
			}
			return ticket, err
		},
		OnPanic: func(p *cache.PanicError) {
			i.id.cfg.Observe(FetchPanicked{Principal: i.id.Principal(), Err: p})
		},
	}
}

// failed returns err as the cache is to remember it.
func (i *Initiator) failed(err error) error {
	if panicked(err) {
		return err // the cache decides
	}
	return remembered(err, i.id.cfg.Now)
}

func panicked(err error) bool {
	_, ok := errors.AsType[*cache.PanicError](err)
	return ok
}

// serviceTicket returns the ticket for the target: at once if one is held, even if no
// KDC can be reached, else as soon as a KDC has issued one.
func (i *Initiator) serviceTicket(ctx context.Context, t *Target) (*Ticket, cache.Source, error) {
	i.id.watch()
	for again := true; ; again = false {
		key := i.key(t)
		if ticket, ok := i.id.cfg.Tickets.Get(key); ok {
			return ticket, cache.Cached, nil
		}
		ticket, source, err := i.id.cfg.Tickets.Fetch(ctx, key, i.servicePolicy(key, t, false))
		if !again || !errors.Is(err, errOtherPrincipal) {
			return ticket, source, err
		}
	}
}

// successor returns a ticket other than the held one, which the service refused. Others
// keep using the held one until then. The cache bounds how often that is, because any
// client can make a service refuse (cache.ErrRationed).
func (i *Initiator) successor(ctx context.Context, t *Target, held *Ticket) (*Ticket, cache.Source, error) {
	key := i.key(t)
	return i.id.cfg.Tickets.Successor(ctx, key, held, i.servicePolicy(key, t, true))
}

// servicePolicy gets the ticket for the target. refused reports whether the service refused the
// one before.
func (i *Initiator) servicePolicy(key cache.Key, t *Target, refused bool) cache.Policy[*Ticket] {
	target := *t
	return i.policy(key, func(ctx context.Context) (*Ticket, error) { return i.getServiceTicket(ctx, &target, refused) })
}

func (i *Initiator) getServiceTicket(ctx context.Context, t *Target, refused bool) (*Ticket, error) {
	id := i.id
	begin := id.cfg.Now()
	if t.User.IsZero() {
		if cred := id.source.held(i.settings, t.SPN); cred != nil {
			return id.ticket(cred)
		}
	}
	if i.endsWithUsers(ctx, t.User) {
		return nil, uncached(errNoLater)
	}
	if err := id.unknown.admit(t); err != nil {
		return nil, err
	}
	ticket, err := i.request(ctx, t, refused)
	switch {
	case err == nil:
	case Remembered(err), panicked(err):
		return nil, err // reported where it occurred
	default:
		err = i.failed(err)
		id.cfg.Observe(TicketFailed{Principal: id.Principal(), SPN: t.SPN, Err: err})
		return nil, reported(err)
	}
	id.cfg.Observe(GotTicket{Credential: ticket.cred, EType: ticket.EType(), Took: id.cfg.Now().Sub(begin)})
	return ticket, nil
}

// request requests the ticket for the target.
func (i *Initiator) request(ctx context.Context, t *Target, refused bool) (*Ticket, error) {
	if p := i.id.platform; p != nil && t.User.IsZero() {
		ticket, err := p.issue(ctx, t.SPN, refused)
		i.id.unknown.answered(t.SPN, err)
		return ticket, err
	}
	cred, err := i.byTGT(ctx, func(tgt *Ticket) (*messages.Credential, error) { return i.requestBy(ctx, t, tgt) })
	if err != nil {
		return nil, err
	}
	return i.id.ticket(cred)
}

// requestBy requests the ticket by a ticket-granting ticket.
func (i *Initiator) requestBy(ctx context.Context, t *Target, tgt *Ticket) (cred *messages.Credential, err error) {
	switch {
	case t.User.IsZero():
		cred, err = i.settings.Client.ServiceTicket(ctx, i.id.source.account(), tgt.cred, t.SPN.principal)
	case t.User.evidence != nil:
		cred, err = i.requestSignedIn(ctx, t, tgt)
	default:
		cred, err = i.requestOnBehalf(ctx, t, tgt)
	}
	i.id.unknown.answered(t.SPN, err)
	return cred, err
}

// forwardedTGT returns a ticket-granting ticket that may be delegated.
func (i *Initiator) forwardedTGT(ctx context.Context) (*Ticket, error) {
	key := i.tgtKey()
	key.Options = uint32(messages.KDC_OPT_FORWARDED)
	ticket, _, err := i.id.cfg.Tickets.Fetch(ctx, key, i.ownPolicy(key, i.settings.Client.Forward))
	return ticket, err
}

// ownPolicy fetches a ticket that is for the identity itself, by its ticket-granting ticket.
func (i *Initiator) ownPolicy(
	key cache.Key, request func(context.Context, *krb5core.Account, *messages.Credential) (*messages.Credential, error),
) cache.Policy[*Ticket] {
	return i.policy(key, func(ctx context.Context) (*Ticket, error) {
		cred, err := i.byTGT(ctx, func(tgt *Ticket) (*messages.Credential, error) {
			return request(ctx, i.id.source.account(), tgt.cred)
		})
		if err != nil {
			return nil, i.failed(err)
		}
		return i.id.ticket(cred)
	})
}

// byTGT makes a request with the ticket-granting ticket, and repeats it with a new one
// if the KDC refuses that: the KDC's own key has changed, or it lost its state.
func (i *Initiator) byTGT(ctx context.Context, request func(tgt *Ticket) (*messages.Credential, error)) (*messages.Credential, error) {
	tgt, err := i.Login(ctx)
	if err != nil {
		return nil, uncached(err)
	}
	tickets, key := i.id.cfg.Tickets, i.tgtKey()
	if old, ok := tickets.Refreshing(ctx); ok && !old.End().Before(tgt.End()) && !tgt.Start().After(old.Start()) {
		// A ticket from this one would end when the old ticket does. (A ticket-granting
		// ticket obtained since, which lasts no longer, shows that there is none that does.)
		if tgt, err = tickets.Renew(ctx, key, tgt, i.loginPolicy(key)); err != nil {
			return nil, uncached(err)
		}
	} else {
		tgt = i.newest(ctx, key, tgt)
	}
	cred, err := request(tgt)
	if tgtRefused(err) || i.id.misnamed(tgt, err) {
		if tgt, _, err = tickets.Successor(ctx, key, tgt, i.loginPolicy(key)); err != nil {
			return nil, err
		}
		cred, err = request(tgt)
	}
	if err == nil {
		i.id.prove(tgt.cred.Client)
	}
	return cred, err
}

// misnamed reports whether a KDC refused a ticket-granting ticket because its client has another
// name than the reply to the login said, which is not authenticated there.
func (id *Identity) misnamed(tgt *Ticket, err error) bool {
	code, ok := krb5core.Code(err)
	return ok && code == messages.KRB_AP_ERR_BADMATCH && !tgt.cred.Client.Equal(id.Principal())
}

// newest waits for the successor of a ticket-granting ticket, if it is on its way: a
// ticket from the old one ends with it, and has to be replaced soon, when perhaps no KDC
// can be reached.
func (i *Initiator) newest(ctx context.Context, key cache.Key, held *Ticket) *Ticket {
	ctx, cancel := context.WithTimeout(ctx, i.settings.Client.Timeout()/2)
	defer cancel()
	if tgt, ok := i.id.cfg.Tickets.Settled(ctx, key); ok {
		return tgt
	}
	return held
}

// tgtRefused reports whether the KDC refused the ticket-granting ticket rather than the
// service.
func tgtRefused(err error) bool {
	code, ok := krb5core.Code(err)
	if !ok {
		return false
	}
	switch code {
	case messages.KRB_AP_ERR_BAD_INTEGRITY, messages.KRB_AP_ERR_TKT_EXPIRED, messages.KRB_AP_ERR_MODIFIED,
		messages.KRB_AP_ERR_BADKEYVER, messages.KRB_AP_ERR_NOKEY, messages.KDC_ERR_TGT_REVOKED, messages.KDC_ERR_NEVER_VALID:
		return true
	}
	return false
}

// Login returns the ticket-granting ticket, and gets it if none is held.
func (i *Initiator) Login(ctx context.Context) (*Ticket, error) {
	key := i.tgtKey()
	tgt, _, err := i.id.cfg.Tickets.Fetch(ctx, key, i.loginPolicy(key))
	return tgt, err
}

func (i *Initiator) loginPolicy(key cache.Key) cache.Policy[*Ticket] { return i.policy(key, i.getTGT) }

func (i *Initiator) getTGT(ctx context.Context) (*Ticket, error) {
	var cred *messages.Credential
	err := i.exclusively(ctx, func(budget *exchange.Budget) (err error) {
		begin := i.id.cfg.Now()
		cred, err = i.id.source.tgt(ctx, i.settings, budget)
		if err != nil && KeyRefused(err) && budget.Left() > 0 {
			if changed, _ := i.id.refresh(ctx); changed { // the password was changed while it was proved
				cred, err = i.id.source.tgt(ctx, i.settings, budget)
			}
		}
		if err == nil {
			i.id.cfg.Observe(LoggedIn{Principal: i.id.Principal(), Credential: cred, Took: i.id.cfg.Now().Sub(begin)})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return i.id.ticket(cred)
}

// refresh reads the secret again, and takes what another process says of it. It reports whether something
// else is to be tried now.
func (id *Identity) refresh(ctx context.Context) (changed bool, err error) {
	changed, err = id.source.reload(ctx)
	if ring, ok := id.source.(*keyring); ok && id.cfg.Next != nil && ring.offer(id.cfg.Next(ctx)) {
		changed = true
	}
	if changed {
		id.breaker.reset()
		id.updateOwner()
	}
	return changed, err
}

// exclusively runs login while no other login of the identity is under way, with what is left of the
// proofs of its key. It does not run it while the breaker is open.
func (i *Initiator) exclusively(ctx context.Context, login func(*exchange.Budget) error) error {
	id := i.id
	select {
	case id.logins <- struct{}{}:
		defer func() { <-id.logins }()
	case <-ctx.Done():
		return i.failed(fmt.Errorf("waiting for another login of %s to end: %w", id.Principal(), ctx.Err()))
	}
	changed, err := id.refresh(ctx)
	if err != nil && !errors.Is(err, ErrCCache) {
		return err
	}
	if refused := id.breaker.state(); refused != nil {
		return refused
	}
	defer id.kept.begin(ctx, changed)()
	if id.kept != nil {
		_, _ = id.refresh(ctx) // another process may have changed the password meanwhile; a failure is reported
	}
	if refused := id.breaker.state(); refused != nil { // as kept by another process
		id.cfg.Observe(LoginFailed{Principal: id.Principal(), Err: refused.Err, Opened: refused.Until})
		return refused
	}
	budget := id.breaker.budget()
	if err := login(budget); err != nil {
		answer, opened := id.breaker.record(err, budget)
		event := LoginFailed{Principal: id.Principal(), Err: err}
		if state := id.breaker.state(); opened && state != nil {
			event.Opened = state.Until
		}
		id.cfg.Observe(event)
		return reported(i.failed(answer))
	}
	id.breaker.reset()
	return nil
}
