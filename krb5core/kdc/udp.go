package kdc

import (
	"bytes"
	"context"
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

type datagram struct {
	data []byte
	err  error
}

type conversation struct {
	*ask
	*link
	// escalate starts TCP beside UDP, with the reason; nil if TCP cannot be used.
	escalate func(reason error)
	// streaming reports whether TCP is under way.
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
	defer c.reportPassedOver()
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
	return c.send(c.message)
}

func (c *conversation) wait(ctx context.Context, received <-chan datagram) (Reply, error) {
	interval := retransmitFirst
	timer, stop := c.cfg.clock.After(interval)
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
			timer, stop = c.cfg.clock.After(interval)
		}
	}
}

// again sends again after silence. A KDC that speaks TCP gets the request by
// TCP, too: a firewall may drop UDP. With pre-authentication it is one of
// the two only, so that the KDC counts the password as few times as can be.
func (c *conversation) again() error {
	silent := fmt.Errorf("%w to %d datagrams", ErrNoAnswer, c.sent)
	if c.escalate != nil {
		first := !c.escalated
		c.escalated = true
		c.escalate(silent)
		if c.request.PreAuth && (first || c.streaming()) {
			return nil
		}
	}
	c.decide(Retransmitting, silent)
	return c.transmit()
}

// consider judges one datagram. Neither a reply nor an error means to continue.
func (c *conversation) consider(d datagram) (Reply, error) {
	if d.err != nil {
		return c.broken(d.err)
	}
	if limit := c.cfg.Options.maxReplySize(); len(d.data) > limit {
		c.passOver(d.data, fmt.Errorf("%w: it has %d bytes, max_reply_size is %d", ErrReplyTooBig, len(d.data), limit))
		return Reply{}, nil
	}
	if isTooBig(d.data) {
		c.observe(Received, d.data, nil)
		c.hold(result{err: fmt.Errorf("%w for UDP", ErrReplyTooBig)}, errTooBigForUDP)
		return Reply{}, nil
	}
	verdict, err := c.judge(d.data)
	if err != nil {
		if verdict == Unproven && c.escalate != nil {
			c.escalate(err)
		}
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

// hold keeps an outcome that may be forged, while TCP verifies it.
func (c *conversation) hold(r result, reason error) {
	c.held = &r
	if c.escalate != nil {
		c.escalate(reason)
	}
}

func (c *conversation) passOver(data []byte, reason error) {
	c.passed++
	c.lastForeign = reason
	c.observe(Received, data, reason)
	c.cfg.Memory.passedOver(c.peer)
}

// reportPassedOver reports all of them at once: an attacker who can forge them could
// otherwise fill logs with them.
func (c *conversation) reportPassedOver() {
	if c.passed > 0 {
		c.cfg.decide(c.observed, c.request, c.peer, Decision{Kind: PassedOver, Datagrams: c.passed, Reason: c.lastForeign})
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
