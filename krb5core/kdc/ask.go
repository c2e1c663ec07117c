package kdc

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// run asks. Without a reply there is at least one attempt with the reason.
func (a *ask) run(ctx context.Context) (Reply, []Attempt) {
	server := a.peer.server
	if server.Scheme == SchemeHTTPS {
		return a.only(ctx, HTTPS)
	}
	udp := server.speaks(UDP) && !a.request.TCPOnly && !a.cfg.proxied && len(a.request.Message) <= maxDatagram
	tcp := server.speaks(TCP)
	switch {
	case udp && !tcp:
		return a.only(ctx, UDP)
	case tcp && !udp:
		return a.only(ctx, TCP)
	case tcp && (len(a.request.Message) > a.cfg.Options.udpPreferenceLimit() || a.cfg.Memory.tcpFirst(server)):
		return a.streamFirst(ctx)
	case tcp:
		return a.datagramFirst(ctx)
	}
	return Reply{}, []Attempt{a.attempt("", a.whyNotUDP())}
}

func (a *ask) whyNotUDP() error {
	switch {
	case a.request.TCPOnly:
		return fmt.Errorf("%w: the KDC is configured for UDP only, but TCP is required; drop the udp/ before it, or use_tcp", ErrUnsupported)
	case a.cfg.proxied:
		return fmt.Errorf("%w: UDP does not go through the proxy; drop the udp/ before the KDC", ErrUnsupported)
	}
	return fmt.Errorf("%w: a message of %d bytes does not fit a datagram; drop the udp/ before the KDC", ErrUnsupported, len(a.request.Message))
}

func (a *ask) attempt(p Protocol, err error) Attempt {
	return Attempt{Server: a.peer.server, Addr: a.peer.addrString(), Protocol: p, Err: err}
}

func (a *ask) only(ctx context.Context, p Protocol) (reply Reply, _ []Attempt) {
	var err error
	switch p {
	case UDP:
		reply, err = a.udp(ctx, nil, nil)
	case TCP:
		reply, err = a.tcp(ctx)
	default:
		reply, err = a.https(ctx)
	}
	if err != nil {
		return Reply{}, []Attempt{a.attempt(p, err)}
	}
	return reply, nil
}

// streamFirst asks by TCP and, if that fails, by UDP.
func (a *ask) streamFirst(ctx context.Context) (Reply, []Attempt) {
	reply, attempts := a.only(ctx, TCP)
	if attempts == nil || ctx.Err() != nil {
		return reply, attempts
	}
	a.cfg.Memory.preferTCP(a.peer.server, false)
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
			reply, err := a.tcp(ctx)
			streaming.Store(false)
			results <- result{TCP, reply, err}
		}()
	}
	go func() {
		reply, err := a.udp(ctx, escalate, streaming.Load)
		results <- result{UDP, reply, err}
	}()

	var attempts []Attempt
	for running > 0 {
		select {
		case reason := <-reasons:
			startTCP(reason)
		case r := <-results:
			running--
			if r.err == nil {
				if r.protocol == TCP && !errors.Is(why, errDeclined) && !errors.Is(why, errUnproven) {
					a.cfg.Memory.preferTCP(a.peer.server, true)
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
