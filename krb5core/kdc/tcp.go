package kdc

import "context"

// maxStreams bounds the connections by which one request is asked at a time.
const maxStreams = 3

// tcp asks by TCP. It may be the connection that has gone silent rather than the
// KDC, so after a while it asks by another one, too; not with pre-authentication,
// for each request may count.
func (a *ask) tcp(ctx context.Context) (Reply, error) {
	if a.request.PreAuth {
		return a.stream(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	results, running := make(chan result, maxStreams), 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-results
		}
	}()
	start := func() {
		running++
		go func() {
			reply, err := a.stream(ctx)
			results <- result{TCP, reply, err}
		}()
	}
	start()
	silent, stop := a.cfg.clock.After(a.cfg.ServerTimeout)
	defer func() { stop() }()
	for began := 1; ; {
		select {
		case r := <-results:
			running--
			if r.err == nil || running == 0 {
				return r.reply, r.err
			}
		case <-silent:
			silent = nil
			if began++; began <= maxStreams {
				start()
				silent, stop = a.cfg.clock.After(a.cfg.ServerTimeout)
			}
		}
	}
}

func (a *ask) stream(ctx context.Context) (Reply, error) {
	c, err := a.dial(ctx, TCP)
	if err != nil {
		return Reply{}, err
	}
	defer c.close()
	if err := c.send(appendFrame(make([]byte, 0, frameLen+len(c.message)), c.message)); err != nil {
		return Reply{}, err
	}
	message, err := readFrame(c, a.cfg.Options.maxReplySize())
	return c.receive(message, err)
}
