package kdc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"
)

// ask is one question to one address of one KDC, by whatever protocols serve.
type ask struct {
	sender *Sender
	query  *Query
	peer   peer
	// observed is the context that the observer is given.
	observed context.Context
}

// result is how asking by one protocol ended.
type result struct {
	protocol Protocol
	reply    Reply
	err      error
}

// run asks. Without a reply there is at least one attempt that tells why.
func (a *ask) run(ctx context.Context) (Reply, []Attempt) {
	server := a.peer.server
	if server.Scheme == SchemeHTTPS {
		return a.only(ctx, HTTPS)
	}
	udp := server.speaks(UDP) && !a.query.TCPOnly && !a.sender.proxied && len(a.query.Message) <= maxDatagram
	tcp := server.speaks(TCP)
	switch {
	case udp && !tcp:
		return a.only(ctx, UDP)
	case tcp && !udp:
		return a.only(ctx, TCP)
	case tcp && (len(a.query.Message) > a.sender.cfg.Options.udpPreferenceLimit() || a.sender.cfg.Memory.tcpFirst(server)):
		return a.streamFirst(ctx)
	case tcp:
		return a.datagramFirst(ctx)
	}
	return Reply{}, []Attempt{a.attempt("", a.whyNotUDP())}
}

func (a *ask) whyNotUDP() error {
	switch {
	case a.query.TCPOnly:
		return fmt.Errorf("%w: the KDC is stated to speak UDP alone, and TCP is demanded; drop the udp/ before it, or use_tcp", ErrUnsupported)
	case a.sender.proxied:
		return fmt.Errorf("%w: UDP does not go through the proxy; drop the udp/ before the KDC", ErrUnsupported)
	}
	return fmt.Errorf("%w: a message of %d octets does not fit a datagram; drop the udp/ before the KDC", ErrUnsupported, len(a.query.Message))
}

func (a *ask) attempt(p Protocol, err error) Attempt {
	return Attempt{Server: a.peer.server, Addr: a.peer.addrString(), Protocol: p, Err: err}
}

// only asks by one protocol.
func (a *ask) only(ctx context.Context, p Protocol) (Reply, []Attempt) {
	r := a.by(ctx, p)
	if r.err != nil {
		return Reply{}, []Attempt{a.attempt(p, r.err)}
	}
	return r.reply, nil
}

func (a *ask) by(ctx context.Context, p Protocol) result {
	r := result{protocol: p}
	switch p {
	case UDP:
		r.reply, r.err = a.udp(ctx, nil, nil)
	case TCP:
		r.reply, r.err = a.tcp(ctx)
	default:
		r.reply, r.err = a.https(ctx)
	}
	return r
}

// streamFirst asks by TCP and, if that fails, by UDP.
func (a *ask) streamFirst(ctx context.Context) (Reply, []Attempt) {
	reply, attempts := a.only(ctx, TCP)
	if attempts == nil || ctx.Err() != nil {
		return reply, attempts
	}
	a.sender.cfg.Memory.preferTCP(a.peer.server, false)
	a.decide(UsingUDP, attempts[0].Err)
	reply, more := a.only(ctx, UDP)
	if more == nil {
		return reply, nil
	}
	return Reply{}, append(attempts, more...)
}

// datagramFirst asks by UDP, and by TCP beside it as soon as there is reason
// to. The first good reply wins.
func (a *ask) datagramFirst(ctx context.Context) (Reply, []Attempt) {
	ctx, cancel := context.WithCancel(ctx)
	results, reasons := make(chan result, 2), make(chan error, 1)
	var streaming atomic.Bool
	running, why := 1, error(nil)
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-results
		}
	}()

	escalate := func(reason error) {
		select {
		case reasons <- reason:
		default:
		}
	}
	startTCP := func(reason error) {
		if why != nil || ctx.Err() != nil {
			return
		}
		why = reason
		a.decide(UsingTCP, reason)
		streaming.Store(true)
		running++
		go func() {
			r := a.by(ctx, TCP)
			streaming.Store(false)
			results <- r
		}()
	}
	go func() {
		r := result{protocol: UDP}
		r.reply, r.err = a.udp(ctx, escalate, streaming.Load)
		results <- r
	}()

	var attempts []Attempt
	for running > 0 {
		select {
		case reason := <-reasons:
			startTCP(reason)
		case r := <-results:
			running--
			if r.err == nil {
				if r.protocol == TCP && !errors.Is(why, errDeclined) {
					a.sender.cfg.Memory.preferTCP(a.peer.server, true)
				}
				return r.reply, nil
			}
			attempts = append(attempts, a.attempt(r.protocol, r.err))
			if r.protocol == UDP {
				startTCP(r.err)
			}
		}
	}
	return Reply{}, attempts
}

// judge tells what a reply is worth, and why if it is foreign.
func (a *ask) judge(message []byte) (Verdict, error) {
	if !isMessage(message) {
		return Foreign, fmt.Errorf("%w: %d octets that are no Kerberos message", ErrForeign, len(message))
	}
	if bytes.Equal(message, a.query.Message) {
		return Foreign, fmt.Errorf("%w: it is our own question, reflected", ErrForeign)
	}
	if a.query.Check == nil {
		return Accept, nil
	}
	verdict := a.query.Check(message)
	if verdict == Foreign {
		return Foreign, fmt.Errorf("%w: it does not answer the question", ErrForeign)
	}
	return verdict, nil
}

func (a *ask) decide(kind DecisionKind, reason error) {
	a.sender.decide(a.observed, Decision{
		Kind: kind, Realm: a.query.Realm, Server: a.peer.server, Addr: a.peer.addrString(), Reason: reason, Question: a.query.Message,
	})
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
	l := &link{ask: a, ctx: ctx, protocol: p, began: a.sender.cfg.Clock.Now()}
	l.remote = net.JoinHostPort(host, strconv.Itoa(a.peer.server.port()))
	conn, err := a.sender.dialer.DialContext(ctx, network, l.remote)
	if err != nil {
		l.observe(Sent, a.query.Message, err)
		return nil, l.fail(err)
	}
	l.Conn = conn
	l.local, l.remote = conn.LocalAddr().String(), conn.RemoteAddr().String()
	l.release = context.AfterFunc(ctx, func() { conn.Close() })
	return l, nil
}

func (l *link) close() {
	l.release()
	l.Conn.Close()
}

// send writes the framed question.
func (l *link) send(framed []byte) error {
	_, err := l.Write(framed)
	l.observe(Sent, l.ask.query.Message, err)
	if err != nil {
		return l.fail(err)
	}
	return nil
}

// receive judges what a stream gave.
func (l *link) receive(message []byte, err error) (Reply, error) {
	if err != nil {
		l.observe(Received, message, err)
		return Reply{}, l.fail(err)
	}
	verdict, err := l.ask.judge(message)
	l.observe(Received, message, err)
	if verdict == Foreign {
		l.ask.sender.cfg.Memory.passedOver(l.ask.peer)
		return Reply{}, err
	}
	return l.reply(message, verdict), nil
}

func (l *link) reply(message []byte, verdict Verdict) Reply {
	addr := l.remote
	if l.ask.sender.proxied {
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
	return l.ask.sender.cfg.Clock.Now().Sub(l.began)
}

func (l *link) observe(direction Direction, data []byte, err error) {
	observer := l.ask.sender.cfg.Observer
	if observer == nil {
		return
	}
	observer.ObserveMessage(l.ask.observed, MessageEvent{
		Direction: direction, Realm: l.ask.query.Realm, Server: l.ask.peer.server, Protocol: l.protocol,
		Local: l.local, Remote: l.remote, Size: len(data), Elapsed: l.elapsed(), Data: data, Err: err, Question: l.ask.query.Message,
	})
}
