package krb5core

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kpasswd"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// ErrPasswordUnknown is wrapped by the errors of ChangePassword after which the account may have either
// password, also some minutes later: a request is under way, or its reply was lost. A login tells.
var ErrPasswordUnknown = errors.New("whether the password was changed is not known")

// PasswordTicket gets a ticket for ChangePassword by the account's keys. It is a login (see Login), and
// nothing but that: services that change passwords accept no other ticket (RFC 3244, Section 2).
func (c *Client) PasswordTicket(ctx context.Context, a *Account, budget *exchange.Budget) (*messages.Credential, error) {
	return c.initial(ctx, a, kpasswd.ServiceName, budget)
}

// KeyVersion returns the version of the account's key, with a ticket-granting ticket of its login: that of
// the last login's reply, or of a ticket for the account itself, because a KDC names no version where
// pre-authentication has replaced the reply's key (SPAKE, FAST).
func (c *Client) KeyVersion(ctx context.Context, a *Account, tgt *messages.Credential) (uint32, error) {
	if kvno := a.kvno.Load(); kvno != 0 {
		return kvno, nil
	}
	own, err := c.ServiceTicket(ctx, a, tgt, tgt.Client)
	if err != nil {
		return 0, err
	}
	ticket, err := messages.ParseTicket(own.Ticket)
	if err == nil && ticket.EncPart.KVNO == 0 {
		err = errors.New("the KDC does not name the version of the key")
	}
	if err != nil {
		return 0, err
	}
	return ticket.EncPart.KVNO, nil
}

// ChangePassword sets a new password, with a ticket of PasswordTicket (RFC 3244). Its errors are
// [*Error], with a [*kpasswd.RefusedError] in it if the server refused the password. Unless one
// wraps ErrPasswordUnknown, nothing was changed.
func (c *Client) ChangePassword(ctx context.Context, a *Account, ticket *messages.Credential, password string) error {
	fail := Error{Op: OpPassword, Realm: ticket.Service.Realm, Client: ticket.Client.String()}
	if c.cfg.Passwords == nil {
		return outcome{err: errors.New("no server that changes passwords is configured")}.failure(fail)
	}
	x := &passwordExchange{client: c, account: a, realm: ticket.Service.Realm}
	var err error
	x.Exchange, err = kpasswd.New(kpasswd.Config{Ticket: ticket, Password: password, Now: x.now})
	if err != nil {
		return outcome{err: err}.failure(fail)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	return x.run(ctx).failure(fail)
}

// passwordExchange is one change of a password, with its I/O.
type passwordExchange struct {
	*kpasswd.Exchange
	client  *Client
	account *Account
	realm   string
	ahead   atomic.Int64 // of the server's clock, beyond that of the realm's KDC; nanoseconds
	unsure  bool         // a request may have changed the password, whatever was replied since
}

func (x *passwordExchange) run(ctx context.Context) outcome {
	out := x.ask(ctx)
	if krbError, ok := errors.AsType[*messages.KRBError](out.err); ok {
		// MIT's server does not say that the clock is the reason. If its time is forged, the next request is refused too.
		ahead := krbError.ServerTime().Sub(x.now())
		if krbError.Code() == messages.KRB_AP_ERR_SKEW || ahead.Abs() > x.client.cfg.MaxSkew {
			x.ahead.Store(int64(ahead))
			out = x.ask(ctx)
		}
	}
	if out.err != nil && x.unsure {
		out.err = fmt.Errorf("%w: %w", out.err, ErrPasswordUnknown)
	}
	return out
}

// ask sends a request over TCP, and if no server is reached so, over UDP.
func (x *passwordExchange) ask(ctx context.Context) outcome {
	half, cancel := context.WithTimeout(ctx, x.client.cfg.Timeout/2)
	defer cancel()
	before := x.Sent()
	out := x.send(half, true)
	if out.err != nil && x.Sent() == before && !x.client.cfg.TCPOnly {
		out = x.send(ctx, false)
	}
	return out
}

func (x *passwordExchange) send(ctx context.Context, tcp bool) (out outcome) {
	before := x.Sent()
	out.realm = x.realm
	out.last, out.err = x.client.cfg.Passwords.Send(ctx, kdc.Request{
		Realm: x.realm, Compose: x.Request, PreAuth: true, PreferTCP: tcp, TCPOnly: x.client.cfg.TCPOnly,
		Check: func(reply []byte) kdc.Verdict {
			if x.Check(reply) != nil {
				return kdc.Foreign
			}
			return kdc.Accept
		},
	})
	if out.err == nil {
		out.err, out.answered = x.Result(out.last.Message), true
	}
	x.unsure = x.unsure || out.err != nil && x.uncertain(out, x.Sent()-before)
	return out
}

// uncertain reports whether one of the requests that were sent may have changed the password although the
// reply says no: a refusal is that of one request, a KRB-ERROR in a datagram may be forged, and the
// server may have read what it takes for a replay.
func (x *passwordExchange) uncertain(out outcome, sent int) bool {
	var krbError *messages.KRBError
	switch {
	case sent == 1 && errors.As(out.err, &krbError):
		return out.last.Protocol == kdc.UDP || krbError.Code() == messages.KRB_AP_ERR_REPEAT
	case sent == 1:
		return !out.answered
	}
	return sent > 1
}

// now is the server's time: usually that of the realm's KDC.
func (x *passwordExchange) now() time.Time {
	return x.account.clock.Now(x.realm).Add(time.Duration(x.ahead.Load()))
}
