package negotiate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// Delegation says to whom our own ticket-granting ticket is handed.
type Delegation int

// The delegations.
const (
	DelegateNever  Delegation = iota
	DelegateMarked            // to services that the KDC marks ok-as-delegate (RFC 4120 2.8)
	DelegateAlways
)

// A Grant is all that tokens for one target are made of. It is a small value, which
// keeps the target that it was asked for; minting from it asks nobody.
type Grant struct {
	Ticket *Ticket
	Source cache.Source
	// forwarded is the ticket-granting ticket to hand over, nil for none.
	forwarded *Ticket

	// By whom and for what the ticket is kept, to tell when it has grown.
	identity *Identity
	settings *Settings
	target   *Target
}

// Held gives what tokens for the target are made of if it is held and nothing
// needs to be done about it. Nothing is delegated by it.
func (id *Identity) Held(s *Settings, t *Target) (Grant, bool) {
	id.watch()
	ticket, ok := id.cfg.Tickets.Get(id.key(s, t))
	return Grant{Ticket: ticket, Source: cache.Cached, identity: id, settings: s, target: t}, ok
}

// Grant gives what tokens for the target are made of.
func (id *Identity) Grant(ctx context.Context, s *Settings, t *Target, d Delegation) (Grant, error) {
	ticket, source, err := id.Ticket(ctx, s, t)
	if err != nil {
		return Grant{}, err
	}
	return id.grant(ctx, s, t, ticket, source, d)
}

func (id *Identity) grant(ctx context.Context, s *Settings, t *Target, ticket *Ticket, source cache.Source, d Delegation) (Grant, error) {
	g := Grant{Ticket: ticket, Source: source, identity: id, settings: s, target: t}
	marked := ticket.cred.Flags&messages.TKT_FLG_OK_AS_DELEGATE != 0
	if d == DelegateNever || d == DelegateMarked && !marked {
		return g, nil
	}
	var err error
	g.forwarded, err = id.forwarded(ctx, s)
	return g, err
}

// forwarded gives a ticket-granting ticket that may be handed over.
func (id *Identity) forwarded(ctx context.Context, s *Settings) (*Ticket, error) {
	key := id.tgtKey(s)
	key.Options = uint32(messages.KDC_OPT_FORWARDED)
	ticket, _, err := id.cfg.Tickets.Fetch(ctx, key, cache.Policy[*Ticket]{
		Timeout: s.Client.Timeout(),
		Fetch: id.owned(key, func(ctx context.Context) (*Ticket, error) {
			cred, err := id.byTGT(ctx, s, func(tgt *Ticket) (*messages.Credential, error) {
				return s.Client.Forward(ctx, id.origin.account(), tgt.cred)
			})
			if err != nil {
				return nil, remembered(err, id.cfg.Now)
			}
			return id.ticket(cred)
		}),
	})
	return ticket, err
}

// Features are how a token is to be made.
type Features struct {
	// Mutual has the acceptor prove itself.
	Mutual bool
	// Raw leaves SPNEGO out.
	Raw bool
	// Bindings are those of the connection; nil for none.
	Bindings *gss.ChannelBindings
	// Ahead, if not nil, has the token bear the time of a clock that is so far
	// ahead of ours: the acceptor's, for one repeat.
	Ahead *time.Duration
}

// Token is a token that was minted.
type Token struct {
	// Header is the value for Authorization.
	Header string
	sent   gss.Context
}

// Format keeps the token out of logs: who reads it in time can use it.
func (t Token) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "token of %d characters", len(t.Header)) }

// Mint makes a token, good for one request.
func (g Grant) Mint(ctx context.Context, f Features) (Token, error) {
	var kind form
	if f.Mutual {
		kind |= formMutual
	}
	if f.Raw {
		kind |= formRaw
	}
	if f.Bindings != nil {
		kind |= formBindings
	}
	before := g.Ticket.grown.Load()
	template, err := g.template(kind)
	if err != nil {
		return Token{}, err
	}
	if g.Ticket.grown.Load() != before {
		id := g.identity // or templates would not count against ticket_memory
		id.cfg.Tickets.Remeasure(id.key(g.settings, g.target))
	}
	var t Token
	if f.Ahead != nil {
		t.Header, t.sent, err = template.HeaderAt(ctx, f.Bindings, *f.Ahead)
	} else {
		t.Header, t.sent, err = template.Header(ctx, f.Bindings)
	}
	return t, err
}

func (g Grant) template(kind form) (*gss.Template, error) {
	if g.forwarded == nil {
		return g.Ticket.template(kind)
	}
	return g.Ticket.delegating(kind, g.forwarded.cred, func() ([]byte, error) {
		return gss.BuildDelegatedCred(g.forwarded.cred, g.Ticket.cred.Key, time.Now().Add(g.forwarded.offset), nil)
	})
}

// ErrMutualAuth is wrapped by the errors for upstreams that did not prove
// themselves as they should.
var ErrMutualAuth = errors.New("mutual authentication failed")

// Verdict is what an upstream's answer says of our token.
type Verdict struct {
	// Refused: the answer is a 401 that asks for Negotiate.
	Refused bool
	// Proven: the upstream holds the service's key, and answers this token.
	Proven bool
	// Proof is why what came in its place proves nothing; nil if nothing came.
	Proof error
	// Error is the acceptor's own reason, if it gave one.
	Error *messages.KRBError
	// Persistent: the upstream says that it binds authentication to connections.
	Persistent bool
}

// Judge reads an answer to the token.
func (t Token) Judge(status int, header http.Header) Verdict {
	challenges := ReadChallenges(header)
	v := Verdict{
		Refused:    status == http.StatusUnauthorized && challenges.Negotiate,
		Persistent: challenges.Persistent,
		Proof:      challenges.Err,
	}
	if len(challenges.Token) == 0 {
		return v
	}
	reply, err := spnego.ParseReply(challenges.Token)
	if err != nil {
		v.Proof = err
		return v
	}
	if len(reply.ResponseToken) == 0 {
		return v
	}
	switch err := t.sent.VerifyToken(reply.ResponseToken); {
	case err == nil:
		v.Proven = true
	case errors.As(err, &v.Error):
		if status != http.StatusUnauthorized {
			v.Proof = err // whoever lets us in with an error did not read the token
		}
	default:
		v.Proof = err
	}
	return v
}

// mostAhead is how far an acceptor's clock may be off for a token to go by it. The
// time in a KRB-ERROR is anybody's word: a token for next year, forged for, could be
// kept and used as long as the ticket lasts.
const mostAhead = 24 * time.Hour

// Retry gives what one repeat of a refused request may be made of, if there is
// any sense in one: a new token if the old one was taken for a replay, one by
// the acceptor's clock if clocks differ, else one of a new ticket, since the
// service's key may have changed. It is false where the acceptor knew us and
// refuses what we want, and where new tickets were refused before.
func (id *Identity) Retry(ctx context.Context, s *Settings, t *Target, d Delegation, refused Grant, v Verdict) (Grant, *time.Duration, bool) {
	if v.Proven {
		return Grant{}, nil, false
	}
	if v.Error != nil {
		switch v.Error.Code() {
		case messages.KRB_AP_ERR_REPEAT:
			return refused, nil, true
		case messages.KRB_AP_ERR_SKEW, messages.KRB_AP_ERR_TKT_NYV:
			ahead := v.Error.ServerTime().Sub(id.cfg.Now())
			if ahead.Abs() > mostAhead {
				return Grant{}, nil, false
			}
			return refused, &ahead, true
		}
	}
	ticket, source, err := id.Successor(ctx, s, t, refused.Ticket)
	if err != nil {
		return Grant{}, nil, false
	}
	g, err := id.grant(ctx, s, t, ticket, source, d)
	return g, nil, err == nil
}
