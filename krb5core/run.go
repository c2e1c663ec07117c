package krb5core

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
)

type outcome struct {
	err       error
	last      kdc.Reply // zero if no KDC replied
	realm     string    // whose KDC was asked last
	answered  bool      // err follows from a KDC's reply
	confirmed bool      // as in Error
}

// failure completes e by the outcome; nil if the exchange succeeded.
func (o outcome) failure(e Error) error {
	if o.err == nil {
		return nil
	}
	e.Err, e.Confirmed, e.Realm = o.err, o.confirmed, cmp.Or(o.realm, e.Realm)
	if o.last.Addr != "" {
		e.KDC = o.last.Server.String()
	}
	if refusal, ok := errors.AsType[*messages.KRBError](o.err); ok {
		e.Refused, e.Code, e.Status = true, refusal.Code(), refusal.Data().Status
	}
	if _, ok := errors.AsType[*exchange.UnarmoredError](o.err); ok {
		e.Confirmed = false // over TCP too, it may be forged
	}
	return &e
}

// exchange runs a machine, and runs a second one before a refusal is believed: over TCP, since
// anyone can forge a datagram, and at another KDC if there is one, since the first may not
// have heard of a change yet. Other errors that follow from a datagram (the KDC supports none of
// the permitted types, say) are confirmed in the same way: a forged KRB-ERROR may be the cause.
// start returns nil for a second machine that may not be run.
func (c *Client) exchange(ctx context.Context, start func(again bool) (exchange.Machine, error)) outcome {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()

	m, err := start(false)
	if err != nil {
		return outcome{err: err}
	}
	first := c.run(ctx, m, nil)
	var refusal *messages.KRBError
	refused, tcp := errors.As(first.err, &refusal), first.last.Protocol != kdc.UDP
	if first.err == nil || !first.answered || tcp && !refused {
		return first
	}
	first.confirmed = tcp // if no other KDC can be asked
	if tcp && !c.hasOther(ctx, first.realm, first.last.Server) {
		return first
	}
	if m, err = start(true); m == nil || err != nil {
		return first
	}
	second := c.run(ctx, m, &first.last.Server)
	switch {
	case second.err == nil:
		return second
	case errors.As(second.err, &refusal):
		second.confirmed = true
		return second
	case second.answered && !refused:
		return second
	default:
		return first
	}
}

func (c *Client) hasOther(ctx context.Context, realm string, server kdc.Server) bool {
	if c.cfg.Finder == nil {
		return false
	}
	servers, err := c.cfg.Finder.KDCs(ctx, realm)
	return err == nil && slices.ContainsFunc(servers, func(s kdc.Server) bool { return s != server })
}

// A datagramMachine follows some replies only after they were confirmed, if they came over UDP.
type datagramMachine interface {
	StepUDP(reply []byte) (*exchange.Request, error)
}

func step(m exchange.Machine, reply kdc.Reply) (*exchange.Request, error) {
	if careful, ok := m.(datagramMachine); ok && reply.Protocol == kdc.UDP {
		return careful.StepUDP(reply.Message)
	}
	return m.Step(reply.Message)
}

// run sends a machine's requests and feeds it the replies until it is done. With avoid, the KDC
// whose answer is being confirmed, it does so over TCP and at another KDC if possible.
func (c *Client) run(ctx context.Context, m exchange.Machine, avoid *kdc.Server) (out outcome) {
	for {
		request, err := step(m, out.last)
		if err != nil || request == nil {
			out.err, out.answered = err, out.last.Message != nil
			return out
		}
		var foreign atomic.Pointer[error] // why the last reply was ignored
		query := kdc.Request{
			Realm:     request.Realm,
			Message:   request.Message,
			PreAuth:   request.PreAuth,
			TCPOnly:   c.cfg.TCPOnly || avoid != nil,
			PreferTCP: request.TCP,
			Check:     func(reply []byte) kdc.Verdict { return verdict(m, reply, &foreign) },
		}
		if avoid != nil {
			query.Avoid = []kdc.Server{*avoid}
		}
		out.realm = request.Realm
		out.last, err = c.cfg.Sender.Send(ctx, query)
		if err != nil {
			if why := foreign.Load(); why != nil {
				// A timeout alone would mislead: replies came, but none was valid.
				err = fmt.Errorf("%w; %w", *why, err)
			}
			out.err = err
			return out
		}
	}
}

func verdict(m exchange.Machine, reply []byte, foreign *atomic.Pointer[error]) kdc.Verdict {
	if err := m.Check(reply); errors.Is(err, exchange.ErrForeign) {
		foreign.Store(&err)
		if _, ok := errors.AsType[*pkinit.CertificateError](err); ok {
			return kdc.Unproven
		}
		return kdc.Foreign
	}
	if refusal, err := messages.ParseKRBError(reply); err == nil && refusal.Code() == messages.KDC_ERR_SVC_UNAVAILABLE {
		return kdc.NextKDC
	}
	return kdc.Accept
}
