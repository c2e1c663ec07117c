package gmsa

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// Bounds of what is read from a server.
const (
	maxMessage  = 64 << 10 // bytes; a password takes less than one kilobyte
	maxMessages = 32       // in answer to a search: an entry, references to other domains, the end
)

// connection is a connection to a domain controller.
type connection struct {
	tls  *tls.Conn
	in   *bufio.Reader
	last int32 // the ID of the last message that was sent
}

// connect opens a TLS connection. It ends with the context.
func (d *Directory) connect(ctx context.Context, s Server) (*connection, error) {
	raw, err := d.Dialer.DialContext(ctx, "tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	if err != nil {
		return nil, &Error{Stage: StageConnect, Err: err}
	}
	c := tls.Client(raw, &tls.Config{ServerName: s.Host, RootCAs: d.RootCAs, MinVersion: tls.VersionTLS12})
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, &Error{Stage: StageTLS, Err: err}
	}
	context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	return &connection{tls: c, in: bufio.NewReader(c)}, nil
}

// close takes leave, as the protocol wants it.
func (c *connection) close() {
	_ = c.send(func(dst []byte) []byte { return der.AppendBytes(dst, opUnbindRequest|0x40, nil) })
	_ = c.tls.Close()
}

// send sends a message with an operation.
func (c *connection) send(op func([]byte) []byte) error {
	c.last++
	_, err := c.tls.Write(appendMessage(nil, c.last, op))
	return err
}

// receive reads the next message, which answers the last one that was sent.
func (c *connection) receive() (message, error) {
	frame, err := readFrame(c.in)
	if err != nil {
		return message{}, err
	}
	m, err := parseMessage(frame)
	if err != nil {
		return message{}, err
	}
	const disconnection = 24 // the extended response that has no request (RFC 4511, Section 4.4.1)
	if m.id == 0 && m.op == der.Application(disconnection) {
		r, err := parseResult(m.raw, disconnection)
		if err == nil {
			err = r.err()
		}
		return message{}, fmt.Errorf("the server ends the connection: %w", err)
	}
	if m.id != c.last {
		return message{}, fmt.Errorf("%w: message %d answers none of ours", errMessage, m.id)
	}
	return m, nil
}

// readFrame reads an element of at most maxMessage bytes.
func readFrame(r io.Reader) ([]byte, error) {
	head := make([]byte, 2, 6)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, noAnswer(err)
	}
	n := int(head[1])
	if n >= 0x80 {
		long := n - 0x80
		if long == 0 || long > 4 {
			return nil, errMessage
		}
		head = head[:2+long]
		if _, err := io.ReadFull(r, head[2:]); err != nil {
			return nil, noAnswer(err)
		}
		n = 0
		for _, b := range head[2:] {
			n = n<<8 | int(b)
		}
	}
	if head[0] != byte(der.TagSequence) || n < 0 || n > maxMessage {
		return nil, fmt.Errorf("%w, or sends a message of more than %d bytes", errMessage, maxMessage)
	}
	frame := append(make([]byte, 0, len(head)+n), head...)[:len(head)+n]
	if _, err := io.ReadFull(r, frame[len(head):]); err != nil {
		return nil, noAnswer(err)
	}
	return frame, nil
}

// noAnswer names the end of the connection, or of waiting.
func noAnswer(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the server closed the connection")
	}
	return fmt.Errorf("no answer: %w", err)
}

// bind sends a token and returns the server's token.
func (c *connection) bind(token []byte) (reply []byte, err error) {
	if err := c.send(func(dst []byte) []byte { return appendBindRequest(dst, token) }); err != nil {
		return nil, err
	}
	m, err := c.receive()
	if err != nil {
		return nil, err
	}
	r, err := parseResult(m.raw, opBindResponse)
	if err != nil {
		return nil, err
	}
	return r.creds, r.err()
}

// search returns the entry of an account, nil if there is none.
func (c *connection) search(base, account string) (found *entry, err error) {
	if err := c.send(func(dst []byte) []byte { return appendSearchRequest(dst, base, account) }); err != nil {
		return nil, err
	}
	for range maxMessages {
		m, err := c.receive()
		if err != nil {
			return nil, err
		}
		switch m.op {
		case der.Application(opSearchEntry):
			e, err := parseEntry(m.raw)
			if err != nil {
				return nil, err
			}
			found = &e
		case der.Application(opSearchReference): // to another domain
		case der.Application(opSearchDone):
			r, err := parseResult(m.raw, opSearchDone)
			if err == nil {
				err = r.err()
			}
			return found, err
		default:
			return nil, errMessage
		}
	}
	return nil, fmt.Errorf("%w: more than %d messages answer the search", errMessage, maxMessages)
}
