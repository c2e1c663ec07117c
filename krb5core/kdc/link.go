package kdc

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// ask is one request to one address of one KDC, by the protocols that can be used.
type ask struct {
	cfg     *config
	request *Request
	peer    peer
	// observed is the context that the observer is given.
	observed context.Context
}

// result is how asking by one protocol ended.
type result struct {
	protocol Protocol
	reply    Reply
	err      error
}

// judge returns the verdict on a reply, and why it is foreign.
func (a *ask) judge(message []byte) (Verdict, error) {
	if a.request.Compose == nil && !isMessage(message) {
		return Foreign, fmt.Errorf("%w: %d bytes that are not a Kerberos message", ErrForeign, len(message))
	}
	if bytes.Equal(message, a.request.Message) {
		return Foreign, fmt.Errorf("%w: it is our own request, reflected", ErrForeign)
	}
	if a.request.Check == nil {
		return Accept, nil
	}
	switch verdict := a.request.Check(message); verdict {
	case Foreign:
		return Foreign, fmt.Errorf("%w: it does not answer the request", ErrForeign)
	case Unproven:
		return Unproven, errUnproven
	default:
		return verdict, nil
	}
}

func (a *ask) decide(kind DecisionKind, reason error) {
	a.cfg.decide(a.observed, a.request, a.peer, Decision{Kind: kind, Reason: reason})
}

// link is a connection to a KDC that is closed when the context ends.
type link struct {
	net.Conn
	ask      *ask
	ctx      context.Context
	protocol Protocol
	began    time.Time
	local    string
	remote   string
	release  func() bool
	message  []byte // the request
}

// dial connects to the KDC, through the proxy if there is one.
func (a *ask) dial(ctx context.Context, p Protocol) (*link, error) {
	network, host := "tcp", a.peer.server.Host
	if p == UDP {
		network = "udp"
	}
	if addr := a.peer.addr; addr.IsValid() {
		host = addr.String()
		if addr.Is4() {
			network += "4"
		} else {
			network += "6"
		}
	}
	l := &link{ask: a, ctx: ctx, protocol: p, began: a.cfg.clock.Now(), message: a.request.Message}
	l.remote = net.JoinHostPort(host, strconv.Itoa(a.peer.server.port()))
	conn, err := a.cfg.dialer.DialContext(ctx, network, l.remote)
	if err != nil {
		l.observe(Sent, l.message, err)
		return nil, l.fail(err)
	}
	l.Conn = conn
	l.local, l.remote = conn.LocalAddr().String(), conn.RemoteAddr().String()
	l.release = context.AfterFunc(ctx, func() { conn.Close() })
	if a.request.Compose != nil {
		if l.message, err = a.request.Compose(addressOf(conn.LocalAddr())); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// addressOf is the IP address of a socket's end, invalid if it has none.
func addressOf(a net.Addr) netip.Addr {
	end, _ := netip.ParseAddrPort(a.String())
	return end.Addr().WithZone("")
}

func (l *link) close() {
	l.release()
	l.Conn.Close()
}

func (l *link) send(framed []byte) error {
	_, err := l.Write(framed)
	l.observe(Sent, l.message, err)
	if err != nil {
		return l.fail(err)
	}
	return nil
}

func (l *link) receive(message []byte, err error) (Reply, error) {
	if err != nil {
		l.observe(Received, message, err)
		return Reply{}, l.fail(err)
	}
	verdict, err := l.ask.judge(message)
	l.observe(Received, message, err)
	if err != nil {
		l.ask.cfg.Memory.passedOver(l.ask.peer)
	}
	if verdict == Foreign {
		return Reply{}, err
	}
	return l.reply(message, verdict), nil
}

func (l *link) reply(message []byte, verdict Verdict) Reply {
	addr := l.remote
	if l.ask.cfg.proxied {
		addr = net.JoinHostPort(l.ask.peer.server.Host, strconv.Itoa(l.ask.peer.server.port()))
	}
	return Reply{Message: message, Server: l.ask.peer.server, Protocol: l.protocol, Addr: addr, Verdict: verdict}
}

// fail says of an error that followed from the end of waiting that there was
// no answer.
func (l *link) fail(err error) error {
	if l.ctx.Err() == nil {
		return err
	}
	if l.Conn == nil {
		return fmt.Errorf("%w: not connected after %s", ErrNoAnswer, l.elapsed())
	}
	return fmt.Errorf("%w: connected, but silent after %s", ErrNoAnswer, l.elapsed())
}

func (l *link) elapsed() time.Duration {
	return l.ask.cfg.clock.Now().Sub(l.began)
}

func (l *link) observe(direction Direction, data []byte, err error) {
	observer := l.ask.cfg.Observer
	if observer == nil {
		return
	}
	observer.ObserveMessage(l.ask.observed, MessageEvent{
		Direction: direction, Realm: l.ask.request.Realm, Server: l.ask.peer.server, Protocol: l.protocol,
		Local: l.local, Remote: l.remote, Size: len(data), Elapsed: l.elapsed(), Data: data, Err: err, Request: l.message,
	})
}
