package kdctest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
)

const (
	// maxMessage bounds the length prefix of a client's message on a stream.
	maxMessage = 1 << 20
	// maxAtOnce bounds the datagrams in process, held ones included.
	maxAtOnce = 4096
)

// listener holds the sockets from one Start to the next Stop.
type listener struct {
	ctx     context.Context
	cancel  context.CancelFunc
	udp     *net.UDPConn
	tcp     *net.TCPListener
	answer  func(*Question) Answer
	tooLong func() []byte // returns the answer to a length prefix above the maximum
	wg      sync.WaitGroup

	mu    sync.Mutex
	conns map[*net.TCPConn]struct{} // nil once closed
}

// listen opens both sockets on one port; a free one if port is zero. It tries several
// because a port that is free for TCP may be in use for UDP.
func listen(host string, port int, answer func(*Question) Answer, tooLong func() []byte) (*listener, error) {
	var firstErr error
	for range 50 {
		tcp, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return nil, fmt.Errorf("listening on tcp: %w", err)
		}
		at := tcp.Addr().(*net.TCPAddr)
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Port: at.Port})
		if err == nil {
			return serve(tcp.(*net.TCPListener), udp, answer, tooLong), nil
		}
		_ = tcp.Close()
		if firstErr == nil {
			firstErr = err
		}
		if port != 0 {
			break
		}
	}
	return nil, fmt.Errorf("listening on udp: %w", firstErr)
}

func serve(tcp *net.TCPListener, udp *net.UDPConn, answer func(*Question) Answer, tooLong func() []byte) *listener {
	l := &listener{tcp: tcp, udp: udp, answer: answer, tooLong: tooLong, conns: make(map[*net.TCPConn]struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	// Many clients at once must not overflow the socket: only faults may lose
	// datagrams. The system may grant less without an error.
	_ = udp.SetReadBuffer(4 << 20)
	l.wg.Go(l.serveUDP)
	l.wg.Go(l.serveTCP)
	return l
}

func (l *listener) port() int { return l.tcp.Addr().(*net.TCPAddr).Port }

func (l *listener) close() {
	l.cancel()
	_ = l.udp.Close()
	_ = l.tcp.Close()
	l.mu.Lock()
	for c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
	l.mu.Unlock()
	l.wg.Wait()
}

func (l *listener) serveUDP() {
	atOnce := make(chan struct{}, maxAtOnce)
	buf := make([]byte, 1<<16)
	for {
		n, from, err := l.udp.ReadFromUDPAddrPort(buf)
		if l.ctx.Err() != nil {
			return
		}
		if err != nil {
			continue // an ICMP error from a client that has closed its socket
		}
		q := &Question{Protocol: "udp", Remote: from.String(), Message: append([]byte(nil), buf[:n]...), ctx: l.ctx}
		select {
		case atOnce <- struct{}{}:
		case <-l.ctx.Done():
			return
		}
		l.wg.Go(func() {
			defer func() { <-atOnce }()
			for _, m := range l.answer(q).datagrams() {
				_, _ = l.udp.WriteToUDPAddrPort(m, from)
			}
		})
	}
}

func (l *listener) serveTCP() {
	for {
		c, err := l.tcp.AcceptTCP()
		if err != nil {
			if l.ctx.Err() != nil {
				return
			}
			continue
		}
		if !l.keep(c) {
			_ = c.Close()
			return
		}
		l.wg.Go(func() {
			defer l.drop(c)
			l.serveStream(c)
		})
	}
}

func (l *listener) keep(c *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *listener) drop(c *net.TCPConn) {
	_ = c.Close()
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
}

// serveStream answers message after message until the client closes, a fault
// ends the stream or the KDC stops.
func (l *listener) serveStream(c *net.TCPConn) {
	for {
		var prefix [4]byte
		if _, err := io.ReadFull(c, prefix[:]); err != nil {
			return
		}
		size := binary.BigEndian.Uint32(prefix[:])
		if size > maxMessage {
			// RFC 4120, Section 7.2.2: the high bit is reserved; such a length is
			// answered with KRB_ERR_FIELD_TOOLONG, and the stream closed.
			_, _ = c.Write(frame(l.tooLong()))
			return
		}
		message := make([]byte, size)
		if _, err := io.ReadFull(c, message); err != nil {
			return
		}
		q := &Question{Protocol: "tcp", Remote: c.RemoteAddr().String(), Message: message, ctx: l.ctx}
		a := l.answer(q)
		if out := a.stream(); len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return
			}
		}
		if a.Reset {
			_ = c.SetLinger(0) // close sends RST
		}
		if a.Reset || a.Close {
			return
		}
	}
}

// frame adds the length prefix of RFC 4120, Section 7.2.2.
func frame(message []byte) []byte {
	out := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(message)), uint32(len(message)))
	return append(out, message...)
}
