package negotiate

import (
	"context"

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

// selfSPN is the cache's name for a user's ticket to ourselves. It cannot be a
// service's, for want of a host.
const selfSPN = "self"

// evidence gives the user's ticket to ourselves, which serves for all services.
func (id *Identity) evidence(ctx context.Context, s *Settings, u User) (*Ticket, error) {
	key := id.tgtKey(s)
	key.User, key.SPN = u.key, selfSPN
	if ticket, ok := id.cfg.Tickets.Get(key); ok {
		return ticket, nil
	}
	ticket, _, err := id.cfg.Tickets.Fetch(ctx, key, cache.Policy[*Ticket]{
		Timeout: s.Client.Timeout(),
		Fetch: func(ctx context.Context) (*Ticket, error) {
			tgt, err := id.Login(ctx, s)
			if err != nil {
				return nil, passing(err)
			}
			account := id.origin.account()
			cred, err := s.Client.TicketForUser(ctx, account, tgt.cred, u.principal)
			if err != nil {
				return nil, remembered(err, id.cfg.Now)
			}
			return id.ticket(cred)
		},
	})
	return ticket, err
}

// Resolve tells who the user is to the KDC, so that it can be judged whether he
// may be acted for before anything is asked in his name.
func (id *Identity) Resolve(ctx context.Context, s *Settings, u User) (messages.Principal, error) {
	ticket, err := id.evidence(ctx, s, u)
	if err != nil {
		return messages.Principal{}, err
	}
	return ticket.cred.Client, nil
}
