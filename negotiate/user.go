package negotiate

import (
	"context"
	"errors"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// User is an end user whom an identity acts for.
type User struct {
	principal messages.Principal
	key       string // of the cache; never folded: whether Alice is alice is the KDC's to say
}

// ParseUser reads the name of an end user (krb5core.ParseEndUser).
func ParseUser(name string, form krb5core.UserForm) (User, error) {
	principal, err := krb5core.ParseEndUser(name, form)
	if err != nil {
		return User{}, err
	}
	key := principal.String()
	if principal.Name.NameType == messages.KRB_NT_ENTERPRISE {
		key = "upn:" + key
	}
	return User{principal, key}, nil
}

// IsZero tells whether there is none.
func (u User) IsZero() bool { return u.key == "" }

// Principal is whom the KDC is asked for.
func (u User) Principal() messages.Principal { return u.principal }

// Resolve tells who the user is to the KDC, so that it can be judged whether he
// may be acted for before anything is asked in his name.
func (id *Identity) Resolve(ctx context.Context, s *Settings, u User) (messages.Principal, error) {
	id.watch()
	ticket, err := id.evidence(ctx, s, u)
	if errors.Is(err, errChangedHands) {
		ticket, err = id.evidence(ctx, s, u)
	}
	if err != nil {
		return messages.Principal{}, err
	}
	return ticket.cred.Client, nil
}

// selfSPN is the cache's name for a user's ticket to ourselves. It cannot be a
// service's, for want of a host.
const selfSPN = "self"

func (id *Identity) evidenceKey(s *Settings, u User) cache.Key {
	key := id.tgtKey(s)
	key.User, key.SPN = u.key, selfSPN
	return key
}

// evidence gives the user's ticket to ourselves, which serves for all services.
func (id *Identity) evidence(ctx context.Context, s *Settings, u User) (*Ticket, error) {
	key := id.evidenceKey(s, u)
	if ticket, ok := id.cfg.Tickets.Get(key); ok {
		return ticket, nil
	}
	ticket, _, err := id.cfg.Tickets.Fetch(ctx, key, id.evidencePolicy(key, s, u))
	return ticket, err
}

func (id *Identity) evidencePolicy(key cache.Key, s *Settings, u User) cache.Policy[*Ticket] {
	return cache.Policy[*Ticket]{
		Timeout: s.Client.Timeout(),
		Fetch: id.owned(key, func(ctx context.Context) (*Ticket, error) {
			cred, err := id.byTGT(ctx, s, func(tgt *Ticket) (*messages.Credential, error) {
				return s.Client.TicketForUser(ctx, id.origin.account(), tgt.cred, u.principal)
			})
			if err != nil {
				return nil, remembered(err, id.cfg.Now)
			}
			return id.ticket(cred)
		}),
	}
}

// askOnBehalf asks for a service ticket in a user's name. What the KDC lets us do
// with the evidence was settled when it was made, and under which key of ours:
// before a refusal is believed the KDC is asked with new evidence, so that what an
// administrator changes takes effect before the evidence ends.
func (id *Identity) askOnBehalf(ctx context.Context, s *Settings, t *Target, tgt *Ticket) (*messages.Credential, error) {
	evidence, err := id.evidence(ctx, s, t.User)
	if err != nil {
		return nil, passing(err)
	}
	account := id.origin.account()
	cred, err := s.Client.TicketOnBehalf(ctx, account, tgt.cred, evidence.cred, t.SPN.principal)
	if !evidenceRefused(err) || id.recent(evidence) {
		return cred, err
	}
	key := id.evidenceKey(s, t.User)
	fresh, _, errFresh := id.cfg.Tickets.Successor(ctx, key, evidence, id.evidencePolicy(key, s, t.User))
	if errFresh != nil {
		return nil, err
	}
	if cred, err = s.Client.TicketOnBehalf(ctx, account, tgt.cred, fresh.cred, t.SPN.principal); err == nil {
		id.cfg.Tickets.Confirm(key, fresh)
	}
	return cred, err
}

// recent tells whether evidence is younger than refusals are remembered for: then
// it is no reason for one.
func (id *Identity) recent(evidence *Ticket) bool {
	age := id.cfg.Now().Sub(evidence.obtained)
	return age >= 0 && age < refusalShortest
}

// evidenceRefused tells whether new evidence may change the KDC's mind.
func evidenceRefused(err error) bool {
	code, ok := krb5core.Code(err)
	return ok && (code == messages.KDC_ERR_BADOPTION || code == messages.KRB_AP_ERR_BADMATCH || code == messages.KDC_ERR_POLICY) || tgtRefused(err)
}
