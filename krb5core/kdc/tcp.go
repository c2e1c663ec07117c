package kdc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// frameLen is the number of octets of length before a message on TCP: RFC 4120
// section 7.2.2.
const frameLen = 4

// appendFrame appends the message with its length before it.
func appendFrame(dst, message []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(message)))
	return append(dst, message...)
}

// readFrame reads one message of at most limit octets. Memory grows as octets
// arrive, whatever length is announced.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var prefix [frameLen]byte
	if n, err := io.ReadFull(r, prefix[:]); err != nil {
		if n == 0 && errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("closed the connection without an answer: %w", err)
		}
		return nil, fmt.Errorf("after %d octets of the reply's length: %w", n, err)
	}
	size := binary.BigEndian.Uint32(prefix[:])
	switch {
	case size == 0:
		return nil, fmt.Errorf("%w: it is empty", ErrForeign)
	case size&(1<<31) != 0:
		// The bit is reserved, RFC 4120 section 7.2.2.
		return nil, fmt.Errorf("%w: its length begins with %#02x, whose top bit must be zero", ErrForeign, prefix[0])
	case uint64(size) > uint64(limit):
		return nil, fmt.Errorf("%w: %d octets are announced, max_reply_size is %d", ErrReplyTooBig, size, limit)
	}
	var reply bytes.Buffer
	if n, err := io.CopyN(&reply, r, int64(size)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("the reply was cut after %d of %d octets: %w", n, size, err)
	}
	return reply.Bytes(), nil
}

// maxStreams bounds the connections by which one question is asked at a time.
const maxStreams = 3

// tcp asks by TCP. It may be the connection that has gone silent rather than the
// KDC, so after a while it asks by another one, too; not with pre-authentication,
// for each question may count.
func (a *ask) tcp(ctx context.Context) (Reply, error) {
	if a.query.PreAuth {
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
			r := result{protocol: TCP}
			r.reply, r.err = a.stream(ctx)
			results <- r
		}()
	}
	start()
	silent, stop := a.sender.cfg.Clock.After(a.sender.cfg.ServerTimeout)
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
				silent, stop = a.sender.cfg.Clock.After(a.sender.cfg.ServerTimeout)
			}
		}
	}
}

// stream asks by one connection.
func (a *ask) stream(ctx context.Context) (Reply, error) {
	c, err := a.dial(ctx, TCP)
	if err != nil {
		return Reply{}, err
	}
	defer c.close()
	if err := c.send(appendFrame(make([]byte, 0, frameLen+len(a.query.Message)), a.query.Message)); err != nil {
		return Reply{}, err
	}
	message, err := readFrame(c, a.sender.cfg.Options.maxReplySize())
	return c.receive(message, err)
}
