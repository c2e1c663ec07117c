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

// tcp asks by TCP.
func (a *ask) tcp(ctx context.Context) (Reply, error) {
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
