package kdc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// A datagram is sent again after retransmitFirst, and then after twice as long
// each time, but at most retransmitMax.
const (
	retransmitFirst = time.Second
	retransmitMax   = 16 * time.Second
	// receiveBuffer holds any datagram.
	receiveBuffer = 1 << 16
)

// datagram is what the socket gave.
type datagram struct {
	data []byte
	err  error
}

// conversation is one question by UDP.
type conversation struct {
	*ask
	*link
	// escalate asks for TCP beside, telling why; nil if TCP does not serve.
	escalate func(reason error)
	// streaming tells whether TCP is under way.
	streaming func() bool

	sent, passed int
	escalated    bool
	lastForeign  error
	// held is what is returned unless a better reply comes soon: anyone can
	// forge an error.
	held *result
}

// udp asks by UDP until a reply is accepted, the KDC refuses or the context ends.
func (a *ask) udp(ctx context.Context, escalate func(error), streaming func() bool) (Reply, error) {
	l, err := a.dial(ctx, UDP)
	if err != nil {
		return Reply{}, err
	}
	c := &conversation{ask: a, link: l, escalate: escalate, streaming: streaming}
	defer c.tellPassedOver()
	received, done := make(chan datagram), make(chan struct{})
	go c.listen(received, done)
	defer func() {
		c.close()
		close(done)
		for range received {
			// Wait until the listener is gone.
		}
	}()
	if err := c.transmit(); err != nil {
		return Reply{}, err
	}
	return c.wait(ctx, received)
}

// listen hands on what the socket gives until it fails or is closed.
func (c *conversation) listen(received chan<- datagram, done <-chan struct{}) {
	defer close(received)
	buffer := make([]byte, receiveBuffer)
	for {
		n, err := c.Read(buffer)
		select {
		case received <- datagram{bytes.Clone(buffer[:n]), err}:
		case <-done:
			return
		}
		if err != nil {
			return
		}
	}
}

func (c *conversation) transmit() error {
	c.sent++
	return c.send(c.query.Message)
}

// wait judges what arrives and sends again what is not answered.
func (c *conversation) wait(ctx context.Context, received <-chan datagram) (Reply, error) {
	interval := retransmitFirst
	timer, stop := c.sender.cfg.Clock.After(interval)
	defer func() { stop() }()
	for {
		select {
		case <-ctx.Done():
			return c.settle()
		case d := <-received:
			if reply, err := c.consider(d); err != nil || reply.Message != nil {
				return reply, err
			}
		case <-timer:
			if c.held != nil {
				return c.settle()
			}
			if err := c.again(); err != nil {
				return c.broken(err)
			}
			interval = min(2*interval, retransmitMax)
			timer, stop = c.sender.cfg.Clock.After(interval)
		}
	}
}

// again sends again after silence. A KDC that speaks TCP gets the question by
// TCP, too: a firewall may drop UDP. With pre-authentication it is one of
// the two only, so that the KDC counts the password as few times as can be.
func (c *conversation) again() error {
	silent := fmt.Errorf("%w to %d datagrams", ErrNoAnswer, c.sent)
	if c.escalate != nil {
		first := !c.escalated
		c.escalated = true
		c.escalate(silent)
		if c.query.PreAuth && (first || c.streaming()) {
			return nil
		}
	}
	c.decide(Retransmitting, silent)
	return c.transmit()
}

// consider judges one datagram. Neither a reply nor an error means to go on.
func (c *conversation) consider(d datagram) (Reply, error) {
	if d.err != nil {
		return c.broken(d.err)
	}
	if limit := c.sender.cfg.Options.maxReplySize(); len(d.data) > limit {
		c.passOver(d.data, fmt.Errorf("%w: it has %d octets, max_reply_size is %d", ErrReplyTooBig, len(d.data), limit))
		return Reply{}, nil
	}
	if isTooBig(d.data) {
		c.observe(Received, d.data, nil)
		c.hold(result{err: fmt.Errorf("%w for UDP", ErrReplyTooBig)}, errTooBigForUDP)
		return Reply{}, nil
	}
	verdict, err := c.judge(d.data)
	if verdict == Foreign {
		c.passOver(d.data, err)
		return Reply{}, nil
	}
	c.observe(Received, d.data, nil)
	reply := c.reply(d.data, verdict)
	if verdict == NextKDC {
		c.hold(result{reply: reply}, errDeclined)
		return Reply{}, nil
	}
	return reply, nil
}

// errTooBigForUDP and errDeclined are reasons to ask the same KDC by TCP.
var (
	errTooBigForUDP = errors.New("the reply is too big for UDP")
	errDeclined     = errors.New("the KDC declined to serve")
)

// hold keeps an outcome that may be forged, while TCP verifies it.
func (c *conversation) hold(r result, reason error) {
	c.held = &r
	if c.escalate != nil {
		c.escalate(reason)
	}
}

// passOver counts a datagram that is of no use.
func (c *conversation) passOver(data []byte, reason error) {
	c.passed++
	c.lastForeign = reason
	c.observe(Received, data, reason)
	c.sender.cfg.Memory.passedOver(c.peer)
}

// tellPassedOver tells of them all at once: whoever can forge datagrams could
// otherwise fill logs with them.
func (c *conversation) tellPassedOver() {
	if c.passed > 0 {
		c.sender.decide(c.observed, Decision{
			Kind: PassedOver, Realm: c.query.Realm, Server: c.peer.server, Addr: c.peer.addrString(),
			Datagrams: c.passed, Reason: c.lastForeign, Question: c.query.Message,
		})
	}
}

// broken ends the conversation when the socket fails, which it also does when
// the context ends.
func (c *conversation) broken(err error) (Reply, error) {
	if c.held != nil || c.ctx.Err() != nil {
		return c.settle()
	}
	return Reply{}, c.explain(err)
}

// settle ends the conversation with what is held, or tells that nothing came.
func (c *conversation) settle() (Reply, error) {
	if c.held != nil {
		return c.held.reply, c.held.err
	}
	return Reply{}, c.explain(fmt.Errorf("%w to %d datagrams", ErrNoAnswer, c.sent))
}

// explain adds what was passed over, which may be why there was no answer.
func (c *conversation) explain(err error) error {
	if c.passed == 0 {
		return err
	}
	return fmt.Errorf("%w (%d datagrams were passed over, the last one: %w)", err, c.passed, c.lastForeign)
}
