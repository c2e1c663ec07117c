package kdc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// isMessage reports whether b is framed as all Kerberos messages are: one element
// of the application class that fills b.
func isMessage(b []byte) bool {
	input := der.String(b)
	if len(b) == 0 || b[0]&0xe0 != byte(der.Application(0)) {
		return false
	}
	var content der.String
	return input.ReadASN1(&content, der.Tag(b[0])) && input.Empty()
}

// isTooBig reports whether b is a KRB-ERROR that says that the reply does not fit
// a datagram. The caller of Send judges what cannot be parsed.
func isTooBig(b []byte) bool {
	e, err := messages.ParseKRBError(b)
	return err == nil && e.ErrorCode == messages.KRB_ERR_RESPONSE_TOO_BIG
}

// frameLen is the number of bytes of length before a message on TCP: RFC 4120,
// Section 7.2.2.
const frameLen = 4

func appendFrame(dst, message []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(message)))
	return append(dst, message...)
}

// readFrame reads one message of at most limit bytes. Memory grows as bytes
// arrive, whatever length is announced.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var prefix [frameLen]byte
	if n, err := io.ReadFull(r, prefix[:]); err != nil {
		if n == 0 && errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("closed the connection without an answer: %w", err)
		}
		return nil, fmt.Errorf("after %d bytes of the reply's length: %w", n, err)
	}
	size := binary.BigEndian.Uint32(prefix[:])
	switch {
	case size == 0:
		return nil, fmt.Errorf("%w: it is empty", ErrForeign)
	case size&(1<<31) != 0:
		// The bit is reserved, RFC 4120, Section 7.2.2.
		return nil, fmt.Errorf("%w: its length begins with %#02x, whose top bit must be zero", ErrForeign, prefix[0])
	case uint64(size) > uint64(limit):
		return nil, fmt.Errorf("%w: %d bytes are announced, max_reply_size is %d", ErrReplyTooBig, size, limit)
	}
	var reply bytes.Buffer
	if n, err := io.CopyN(&reply, r, int64(size)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("the reply was cut after %d of %d bytes: %w", n, size, err)
	}
	return reply.Bytes(), nil
}
