package negotiate

import (
	"context"
	"errors"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// User is a user that an identity impersonates: one whose name is known, or one who has
// signed in.
type User struct {
	principal messages.Principal
	text      string // never folded: only the KDC can say whether Alice is alice

	// Of a user who has signed in:
	evidence *messages.Credential
	account  string
}

// ParseUser reads the name of a user (krb5core.ParseEndUser).
func ParseUser(name string, form krb5core.UserForm) (User, error) {
	principal, err := krb5core.ParseEndUser(name, form)
	if err != nil {
		return User{}, err
	}
	return User{principal: principal, text: principal.String()}, nil
}

// SignedIn returns the user who has signed in to an identity's account with a ticket, which is
// the evidence that they may be impersonated. account is the user's, in whatever form, if it is
// known: the name can pass to another one. The credential must not be modified any more.
func SignedIn(ticket *messages.Credential, account string) User {
	return User{principal: ticket.Client, text: ticket.Client.String(), evidence: ticket, account: account}
}

// IsZero reports whether there is none.
func (u User) IsZero() bool { return u.text == "" }

// Principal is the name that the KDC is asked for.
func (u User) Principal() messages.Principal { return u.principal }

// options are those of the cache's keys: what the KDC permits by the user's own ticket, and by
// one that is not forwardable, says nothing of the other ways.
func (u User) options() uint32 {
	if u.evidence == nil {
		return 0
	}
	forwardable := u.evidence.Flags&messages.TKT_FLG_FORWARDABLE != 0
	options := messages.KDC_OPT_CNAME_IN_ADDL_TKT
	if forwardable {
		options |= messages.KDC_OPT_FORWARDABLE
	}
	return uint32(options)
}

// Resolve returns the user's evidence ticket, which has the KDC's name of the user, if
// admit permits: rules apply before anything is requested in the user's name. An account
// that an older ticket does not name (ErrAccountUnknown) is looked for in a new one,
// because a key may have been added since.
func (i *Initiator) Resolve(ctx context.Context, u User, admit func(*messages.Credential) error) (*messages.Credential, error) {
	i.id.watch()
	ticket, err := i.evidence(ctx, u)
	if errors.Is(err, errOtherPrincipal) {
		ticket, err = i.evidence(ctx, u)
	}
	if err != nil {
		return nil, err
	}
	err = admit(ticket.cred)
	if !errors.Is(err, ErrAccountUnknown) || i.id.recent(ticket) {
		return ticket.cred, err
	}
	tickets, key := i.id.cfg.Tickets, i.evidenceKey(u)
	fresh, _, errFresh := tickets.Successor(ctx, key, ticket, i.evidencePolicy(key, u))
	if errFresh != nil {
		return nil, err
	}
	if err = admit(fresh.cred); err == nil {
		tickets.Confirm(key, fresh)
	}
	return fresh.cred, err
}

// GrantUser is Grant for a target with a user. admit reports whether the user may be
// impersonated, by an error that wraps ErrUserDenied: it is called with the user's
// evidence ticket before a ticket for the service is requested, and with that ticket.
// Nothing is delegated.
func (i *Initiator) GrantUser(ctx context.Context, t *Target, admit func(*messages.Credential) error) (Grant, error) {
	if t.User.evidence != nil {
		return i.grantSignedIn(ctx, t, admit)
	}
	g, held := i.Held(t)
	if !held {
		// If the KDC cannot resolve the user now, a ticket that is held stays in use.
		_, err := i.Resolve(ctx, t.User, admit)
		if errors.Is(err, ErrUserDenied) {
			return Grant{}, err
		}
		if g, err = i.Grant(ctx, t, DelegateNever); err != nil {
			return Grant{}, err
		}
	}
	err := admit(g.Ticket.cred)
	if errors.Is(err, ErrAccountUnknown) {
		// The ticket is as old as evidence that no key opened. Its user is the same.
		var evidence *messages.Credential
		if evidence, err = i.Resolve(ctx, t.User, admit); err == nil {
			named := *g.Ticket.cred
			named.Account = evidence.Account
			err = admit(&named)
		}
	}
	return g, err
}

// grantSignedIn is GrantUser for a user who has signed in. A ticket that was got with an earlier
// one of the user's tickets stays in use until it ends.
func (i *Initiator) grantSignedIn(ctx context.Context, t *Target, admit func(*messages.Credential) error) (Grant, error) {
	evidence := t.User.evidence
	if !i.id.clock.Now(evidence.Service.Realm).Before(evidence.EndTime) {
		return Grant{}, ErrTicketGone
	}
	if err := admit(evidence); err != nil {
		return Grant{}, err
	}
	g, held := i.Held(t)
	if !held {
		var err error
		if g, err = i.Grant(ctx, t, DelegateNever); err != nil {
			return Grant{}, err
		}
	}
	return g, admit(g.Ticket.cred)
}

// requestSignedIn requests a service ticket by the ticket that the user signed in with. It ends
// with that, whatever the KDC says.
func (i *Initiator) requestSignedIn(ctx context.Context, t *Target, tgt *Ticket) (*messages.Credential, error) {
	evidence := t.User.evidence
	cred, err := i.settings.Client.TicketOnBehalf(ctx, i.id.source.account(), tgt.cred, evidence, t.SPN.principal)
	if err != nil {
		return nil, &EvidenceError{Forwardable: evidence.Flags&messages.TKT_FLG_FORWARDABLE != 0, Err: err}
	}
	if cred.EndTime.After(evidence.EndTime) {
		cred.EndTime = evidence.EndTime
	}
	return cred, nil
}

// errNoLater is for the refresh of a ticket that would end when the present one does.
var errNoLater = errors.New("the user has to sign in again for a ticket that ends later")

// endsWithUsers reports, within a refresh, whether the ticket to be replaced lasts as long as the
// one that the user signed in with.
func (i *Initiator) endsWithUsers(ctx context.Context, u User) bool {
	if u.evidence == nil {
		return false
	}
	old, refreshing := i.id.cfg.Tickets.Refreshing(ctx)
	return refreshing && !old.cred.EndTime.Before(u.evidence.EndTime)
}

// evidence returns the evidence ticket of a user (S4U2Self), which all services share.
func (i *Initiator) evidence(ctx context.Context, u User) (*Ticket, error) {
	key := i.evidenceKey(u)
	ticket, _, err := i.id.cfg.Tickets.Fetch(ctx, key, i.evidencePolicy(key, u))
	return ticket, err
}

func (i *Initiator) evidencePolicy(key cache.Key, u User) cache.Policy[*Ticket] {
	return i.ownPolicy(key, func(ctx context.Context, a *krb5core.Account, tgt *messages.Credential) (*messages.Credential, error) {
		cred, err := i.settings.Client.TicketForUser(ctx, a, tgt, u.principal)
		opened := err == nil && cred.Account != nil
		if opened || err != nil && !errors.Is(err, exchange.ErrUserNotProven) || !i.relogin(ctx, a) {
			return cred, err
		}
		return i.settings.Client.TicketForUser(ctx, i.id.source.account(), tgt, u.principal)
	})
}

// relogin logs in again if the account may then open a ticket that it did not: its keys
// have changed, or it has not learnt yet what its password is salted with. It reports
// whether it did.
func (i *Initiator) relogin(ctx context.Context, a *krb5core.Account) bool {
	_ = i.id.reload(ctx)
	_ = i.ReadPassword(ctx, true)
	held, err := i.Login(ctx)
	switch {
	case err != nil:
	case i.id.source.account() != a:
		return true
	case !a.Salted():
		key := i.tgtKey()
		_, _, err = i.id.cfg.Tickets.Successor(ctx, key, held, i.loginPolicy(key))
		return err == nil
	}
	return false
}

// requestOnBehalf requests a service ticket in a user's name (S4U2Proxy). What the
// evidence allows, and which of the account's keys it needs, was settled when it was
// issued: before a refusal is believed, the request is repeated with new evidence, so
// that a change by an administrator takes effect before the evidence ends.
func (i *Initiator) requestOnBehalf(ctx context.Context, t *Target, tgt *Ticket) (*messages.Credential, error) {
	evidence, err := i.evidence(ctx, t.User)
	if err != nil {
		return nil, uncached(err)
	}
	client, account := i.settings.Client, i.id.source.account()
	cred, err := client.TicketOnBehalf(ctx, account, tgt.cred, evidence.cred, t.SPN.principal)
	if !evidenceRefused(err) || i.id.recent(evidence) {
		return cred, err
	}
	tickets, key := i.id.cfg.Tickets, i.evidenceKey(t.User)
	fresh, _, errFresh := tickets.Successor(ctx, key, evidence, i.evidencePolicy(key, t.User))
	if errFresh != nil {
		return nil, err
	}
	if cred, err = client.TicketOnBehalf(ctx, account, tgt.cred, fresh.cred, t.SPN.principal); err == nil {
		tickets.Confirm(key, fresh)
	}
	return cred, err
}

// recent reports whether evidence is younger than refusals are remembered for: then its
// age is not the reason for one.
func (id *Identity) recent(evidence *Ticket) bool {
	age := id.cfg.Now().Sub(evidence.obtained)
	return age >= 0 && age < refusalShortest
}

// evidenceRefused reports whether new evidence may lead to another answer of the KDC.
func evidenceRefused(err error) bool {
	code, ok := krb5core.Code(err)
	return ok && (code == messages.KDC_ERR_BADOPTION || code == messages.KRB_AP_ERR_BADMATCH || code == messages.KDC_ERR_POLICY) || tgtRefused(err)
}
