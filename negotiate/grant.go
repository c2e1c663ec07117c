package negotiate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/internal/sspi"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// Delegation says to which services the identity's ticket-granting ticket is delegated.
type Delegation int

// The delegations.
const (
	DelegateNever  Delegation = iota
	DelegateMarked            // to services that the KDC marks ok-as-delegate (RFC 4120, Section 2.8)
	DelegateAlways
)

// A Grant is what tokens for one target are minted from. It is a small value; minting
// from it contacts no KDC.
type Grant struct {
	Ticket *Ticket
	Source cache.Source

	forwarded *Ticket // the ticket-granting ticket to delegate, nil for none
	delegate  bool    // the operating system delegates its own

	// Where the ticket is kept, to report that it has grown.
	tickets *Tickets
	key     cache.Key
}

// Held returns the grant for the target if its ticket is held and nothing needs to be
// done about it. Nothing is delegated by it.
func (i *Initiator) Held(t *Target) (Grant, bool) {
	i.id.watch()
	key := i.key(t)
	ticket, ok := i.id.cfg.Tickets.Get(key)
	return Grant{Ticket: ticket, Source: cache.Cached, tickets: i.id.cfg.Tickets, key: key}, ok
}

// Grant returns the grant for the target, and gets the ticket if it is not held.
func (i *Initiator) Grant(ctx context.Context, t *Target, d Delegation) (Grant, error) {
	ticket, source, err := i.serviceTicket(ctx, t)
	if err != nil {
		return Grant{}, err
	}
	return i.grant(ctx, t, ticket, source, d)
}

func (i *Initiator) grant(ctx context.Context, t *Target, ticket *Ticket, source cache.Source, d Delegation) (g Grant, err error) {
	g = Grant{Ticket: ticket, Source: source, tickets: i.id.cfg.Tickets, key: i.key(t)}
	marked := ticket.cred.Flags&messages.TKT_FLG_OK_AS_DELEGATE != 0
	switch {
	case d == DelegateNever || d == DelegateMarked && !marked:
	case ticket.platform != nil:
		g.delegate = true
	default:
		g.forwarded, err = i.forwardedTGT(ctx)
	}
	return g, err
}

// Features say how a token is minted.
type Features struct {
	// Mutual requests a proof of the acceptor.
	Mutual bool
	// Raw leaves SPNEGO out.
	Raw bool
	// Bindings are those of the connection; nil for none.
	Bindings *httpauth.Binding
	// ClockOffset, if not nil, is by how much the acceptor's clock is ahead of the local
	// one, for one repeat. If it is nil, the offset counts that was confirmed last.
	ClockOffset *time.Duration
}

// Token is a token that was minted.
type Token struct {
	// Header is the value for Authorization.
	Header string
	sent   gss.Context

	// Of a token of the operating system:
	platform bool
	answer   *sspi.Context // verifies the answer; nil if none is expected
}

// Close releases what verifies the answer. It may be called more than once, and need not be
// after Judge.
func (t Token) Close() { t.answer.Close() }

// Format keeps the token out of logs: a reader can use it while it is valid.
func (t Token) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "token of %d characters", len(t.Header)) }

// Mint makes a token, good for one request.
func (g Grant) Mint(ctx context.Context, f Features) (Token, error) {
	if g.Ticket.platform != nil {
		return g.mintByPlatform(ctx, f)
	}
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
		g.tickets.Remeasure(g.key) // templates count against ticket_memory
	}
	var (
		t        Token
		bindings *gss.ChannelBindings
	)
	if f.Bindings != nil {
		bindings = &f.Bindings.Hashed
	}
	if f.ClockOffset != nil {
		t.Header, t.sent, err = template.HeaderAt(ctx, bindings, *f.ClockOffset)
	} else if offset := g.Ticket.acceptor.kept(); offset != 0 {
		t.Header, t.sent, err = template.HeaderAt(ctx, bindings, offset)
	} else {
		t.Header, t.sent, err = template.Header(ctx, bindings)
	}
	return t, err
}

// mintByPlatform makes a token that the operating system has to get a ticket for if it has lost
// the one that was there: if it cannot, that is remembered from now on.
func (g Grant) mintByPlatform(ctx context.Context, f Features) (Token, error) {
	t, err := g.Ticket.platform.mint(ctx, g.delegate, f)
	if _, failed := errors.AsType[*sspi.Error](err); failed {
		g.tickets.Drop(func(k cache.Key) bool { return k == g.key })
	}
	return t, err
}

// acceptorClock is by how much a service's clock is ahead of the local one, as far as its answers
// have shown it: zero as long as tokens by the realm's clock are accepted.
type acceptorClock struct {
	offset atomic.Int64 // in nanoseconds
	told   atomic.Bool  // it was reported that the clock is off
}

// kept returns the offset that the last answers have confirmed. It may be called on nil.
func (a *acceptorClock) kept() time.Duration {
	if a == nil {
		return 0
	}
	return time.Duration(a.offset.Load())
}

// clockTolerance is how far a clock may differ and count as right: that of a refusal takes some time.
const clockTolerance = 2 * time.Second

// keepOffset keeps the offset by which the service accepted a token, so that the next ones are not
// refused first. That it is off is reported once.
func (i *Initiator) keepOffset(t *Target, ticket *Ticket, offset time.Duration) {
	clock := ticket.acceptor
	switch {
	case clock == nil:
	case offset.Abs() < clockTolerance:
		clock.offset.Store(0)
	default:
		clock.offset.Store(int64(offset))
		if clock.told.CompareAndSwap(false, true) {
			i.id.cfg.Observe(AcceptorClockOff{Principal: i.id.Principal(), SPN: t.SPN, Offset: offset})
		}
	}
}

func (g Grant) template(kind form) (*gss.Template, error) {
	if g.forwarded == nil {
		return g.Ticket.template(kind)
	}
	return g.Ticket.delegating(kind, g.forwarded.cred, func() ([]byte, error) {
		return gss.BuildDelegatedCred(g.forwarded.cred, g.Ticket.cred.Key, time.Now().Add(g.forwarded.offset), nil)
	})
}

// ErrMutualAuth is wrapped by the errors for upstreams that failed to prove
// themselves.
var ErrMutualAuth = errors.New("mutual authentication failed")

// Verdict is what an upstream's response says about a token.
type Verdict struct {
	// Refused: the answer is a 401 that asks for Negotiate.
	Refused bool
	// Proven: the upstream proved that it holds the service's key, for this token.
	Proven bool
	// Proof is why the response's proof is wrong; nil if it has none.
	Proof error
	// Error is the acceptor's own reason, if it gave one.
	Error *messages.KRBError
	// Unbound is set by the caller if a refusal may be due to the channel bindings of the
	// connection alone: the repeat is made from the same ticket.
	Unbound bool
}

// MayBeUnbound reports whether a refusal may be due to channel bindings: acceptors give no
// other reason for it than a generic error, and mostly none.
func (v Verdict) MayBeUnbound() bool {
	return v.Refused && !v.Proven && (v.Error == nil || v.Error.Code() == messages.KRB_ERR_GENERIC)
}

// Judge reads the response to the token. It is called at most once.
func (t Token) Judge(status int, header http.Header) Verdict {
	defer t.Close()
	challenges := httpauth.ReadChallenges(header)
	v := Verdict{
		Refused: status == http.StatusUnauthorized && challenges.Negotiate,
		Proof:   challenges.Err,
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
	if t.platform {
		err = verifyPlatform(t.answer, reply.ResponseToken)
	} else {
		err = t.sent.VerifyToken(reply.ResponseToken)
	}
	var refused bool
	v.Error, refused = errors.AsType[*messages.KRBError](err)
	switch {
	case err == nil:
		v.Proven = true
	case refused:
		if status != http.StatusUnauthorized {
			v.Proof = err // an acceptor that accepts with an error did not read the token
		}
	default:
		v.Proof = err
	}
	return v
}

// maxClockOffset bounds the difference of an acceptor's clock that a token is made for.
// The time in a KRB-ERROR is not authenticated: a token for next year, caused by a forged
// one, could be kept and used as long as the ticket lasts.
const maxClockOffset = 24 * time.Hour

// Retry returns what the one repeat of a refused request is made from, if a repeat makes
// sense: a new token if the old one was taken for a replay, one by the acceptor's clock if
// clocks differ, else one of a new ticket, since the service's key may have changed. It is
// false if the acceptor authenticated the client and refuses the request, and if new
// tickets were refused before.
func (i *Initiator) Retry(ctx context.Context, t *Target, d Delegation, refused Grant, v Verdict) (Grant, *time.Duration, bool) {
	if v.Proven {
		return Grant{}, nil, false
	}
	if v.Error != nil {
		switch v.Error.Code() {
		case messages.KRB_AP_ERR_REPEAT:
			return refused, nil, true
		case messages.KRB_AP_ERR_SKEW, messages.KRB_AP_ERR_TKT_NYV:
			if refused.Ticket.platform != nil {
				return Grant{}, nil, false // its clock is the machine's
			}
			offset := v.Error.ServerTime().Sub(i.id.cfg.Now())
			if offset.Abs() > maxClockOffset {
				return Grant{}, nil, false
			}
			return refused, &offset, true
		}
	}
	ticket, source, err := i.successor(ctx, t, refused.Ticket)
	if err != nil {
		return Grant{}, nil, false
	}
	g, err := i.grant(ctx, t, ticket, source, d)
	return g, nil, err == nil
}

// Confirm reports that the service accepted the ticket, after a Retry.
func (i *Initiator) Confirm(t *Target, ticket *Ticket) { i.id.cfg.Tickets.Confirm(i.key(t), ticket) }
