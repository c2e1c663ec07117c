package bench

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// relay forwards to a KDC and delays each datagram, and each read of a stream, in both
// directions, to simulate a distant KDC.
type relay struct {
	to    string
	delay time.Duration
	udp   *net.UDPConn
	tcp   *net.TCPListener
	wg    sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]struct{}
}

// newRelay listens on one port for both protocols.
func newRelay(to string, delay time.Duration) (*relay, error) {
	for range 50 {
		tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, err
		}
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: tcp.Addr().(*net.TCPAddr).Port})
		if err != nil {
			_ = tcp.Close()
			continue
		}
		r := &relay{to: to, delay: delay, udp: udp, tcp: tcp, open: make(map[net.Conn]struct{})}
		r.wg.Go(r.serveUDP)
		r.wg.Go(r.serveTCP)
		return r, nil
	}
	return nil, errors.New("no port is free for UDP and TCP")
}

// addr is host:port.
func (r *relay) addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.tcp.Addr().(*net.TCPAddr).Port))
}

func (r *relay) stop() {
	_ = r.udp.Close()
	_ = r.tcp.Close()
	r.mu.Lock()
	r.closed = true
	for c := range r.open {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// keep registers a connection to be closed when the relay stops.
func (r *relay) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = c.Close()
		return false
	}
	r.open[c] = struct{}{}
	return true
}

func (r *relay) drop(c net.Conn) {
	_ = c.Close()
	r.mu.Lock()
	delete(r.open, c)
	r.mu.Unlock()
}

// hold waits for the delay since the time of arrival.
func (r *relay) hold(since time.Time) error { return sleepUntil(since.Add(r.delay)) }

// serveUDP sends each datagram to the KDC on a socket of its own, and waits for one reply.
func (r *relay) serveUDP() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := r.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		arrival, request := time.Now(), slices.Clone(buf[:n])
		r.wg.Go(func() {
			c, err := net.Dial("udp", r.to)
			if err != nil || !r.keep(c) {
				return
			}
			defer r.drop(c)
			if r.hold(arrival) != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			reply := make([]byte, 1<<16)
			if _, err := c.Write(request); err != nil {
				return
			}
			n, err := c.Read(reply)
			if err != nil {
				return
			}
			if r.hold(time.Now()) == nil {
				_, _ = r.udp.WriteToUDPAddrPort(reply[:n], from)
			}
		})
	}
}

func (r *relay) serveTCP() {
	for {
		client, err := r.tcp.Accept()
		if err != nil {
			return
		}
		if !r.keep(client) {
			return
		}
		r.wg.Go(func() {
			defer r.drop(client)
			server, err := net.Dial("tcp", r.to)
			if err != nil || !r.keep(server) {
				return
			}
			defer r.drop(server)
			back := make(chan struct{})
			r.wg.Go(func() {
				defer close(back)
				r.pass(client, server)
			})
			// The client's handshake with the relay had no delay: add that of one
			// round trip.
			if r.hold(time.Now().Add(r.delay)) == nil {
				r.pass(server, client)
			}
			<-back
		})
	}
}

// pass forwards a stream with a delay, until one end closes.
func (r *relay) pass(to, from net.Conn) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if r.hold(time.Now()) != nil {
				break
			}
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
}
