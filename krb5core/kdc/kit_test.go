package kdc

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const realm = "EXAMPLE.COM"

// patience is how long a test waits for what should come at once.
const patience = 20 * time.Second

// request, answer and krbError make messages that are framed as Kerberos's are.
var requestMessage = der.AppendBytes(nil, der.Application(10), []byte("request"))

func answer(text string) []byte {
	return der.AppendBytes(nil, der.Application(11), []byte(text))
}

func krbError(code messages.ErrorCode) []byte {
	e := messages.KRBError{STime: time.Unix(1_800_000_000, 0), SUSec: 17, ErrorCode: code, Realm: realm, SName: messages.TGSName(realm)}
	return e.Marshal()
}

// manualClock moves when the test says so.
type manualClock struct {
	mu     sync.Mutex
	armed  *sync.Cond
	now    time.Time
	timers []*manualTimer
}

type manualTimer struct {
	c    chan time.Time
	d    time.Duration
	when time.Time
}

func newManualClock() *manualClock {
	c := &manualClock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	c.armed = sync.NewCond(&c.mu)
	return c
}

func (c *manualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *manualClock) After(d time.Duration) (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	timer := &manualTimer{make(chan time.Time, 1), d, c.now.Add(d)}
	c.timers = append(c.timers, timer)
	c.armed.Broadcast()
	return timer.c, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.timers = slices.DeleteFunc(c.timers, func(other *manualTimer) bool { return other == timer })
	}
}

func (c *manualClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.timers = slices.DeleteFunc(c.timers, func(timer *manualTimer) bool {
		if timer.when.After(c.now) {
			return false
		}
		timer.c <- c.now
		return true
	})
}

// wait returns when a timer of the given length is running.
func (c *manualClock) wait(t *testing.T, d time.Duration) {
	t.Helper()
	late := false
	watchdog := time.AfterFunc(patience, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		late = true
		c.armed.Broadcast()
	})
	defer watchdog.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !late {
		if slices.ContainsFunc(c.timers, func(timer *manualTimer) bool { return timer.d == d }) {
			return
		}
		c.armed.Wait()
	}
	t.Fatalf("there is no timer of %s", d)
}

// pass waits for a timer of the given length and lets it run out.
func (c *manualClock) pass(t *testing.T, d time.Duration) {
	t.Helper()
	c.wait(t, d)
	c.Advance(d)
}

// recorder is an Observer that remembers.
type recorder struct {
	mu        sync.Mutex
	messages  []MessageEvent
	decisions []Decision
	// received gets a value for each message received.
	received chan struct{}
}

func newRecorder() *recorder { return &recorder{received: make(chan struct{}, 1000)} }

func (r *recorder) ObserveMessage(_ context.Context, m MessageEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.Data = slices.Clone(m.Data)
	r.messages = append(r.messages, m)
	if m.Direction == Received {
		r.received <- struct{}{}
	}
}

func (r *recorder) ObserveDecision(_ context.Context, d Decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.decisions = append(r.decisions, d)
}

// wait returns when one more message has been received.
func (r *recorder) wait(t *testing.T) {
	t.Helper()
	select {
	case <-r.received:
	case <-time.After(patience):
		t.Fatal("no message was received")
	}
}

// count tells how often it was so decided about the server.
func (r *recorder) count(kind DecisionKind, s Server) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, d := range r.decisions {
		if d.Kind == kind && d.Server == s {
			n++
		}
	}
	return n
}

// fakeKDC is a KDC on loopback.
type fakeKDC struct {
	Server
	datagrams, streams atomic.Int64
	// asked gets a value for each datagram that was handled and each
	// connection that was accepted.
	asked chan struct{}
	udp   net.PacketConn
	tcp   net.Listener
}

// datagramHandler answers the nth datagram, counted from 1.
type datagramHandler func(n int, requestMessage []byte, send func([]byte), client net.Addr)

// streamHandler serves the nth connection, counted from 1.
type streamHandler func(n int, conn net.Conn)

// Fake KDCs use ports that systems do not give to clients: a client that gets
// the port of a refusing KDC would be talking to itself.
const (
	lowestPort = 15_000
	ports      = 15_000
)

var nextPort atomic.Uint32

func init() { nextPort.Store(rand.Uint32N(ports)) }

// wantRefusals skips tests of KDCs where nothing listens for datagrams, and no time passes: Go has
// Windows not report it.
func wantRefusals(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("LEFT OUT: datagrams that are refused (not on this system)")
	}
}

// startKDC listens on a port of 127.0.0.1. Without a handler the protocol is refused.
func startKDC(t testing.TB, onDatagram datagramHandler, onStream streamHandler) *fakeKDC {
	t.Helper()
	return startKDCAt(t, "127.0.0.1", onDatagram, onStream)
}

func startKDCAt(t testing.TB, host string, onDatagram datagramHandler, onStream streamHandler) *fakeKDC {
	t.Helper()
	k := &fakeKDC{asked: make(chan struct{}, 1000)}
	for range 1000 {
		port := lowestPort + nextPort.Add(1)%ports
		var err error
		if k.udp, err = net.ListenPacket("udp", net.JoinHostPort(host, strconv.Itoa(int(port)))); err != nil {
			continue
		}
		if k.tcp, err = net.Listen("tcp", k.udp.LocalAddr().String()); err == nil {
			break
		}
		k.udp.Close()
	}
	if k.tcp == nil {
		t.Fatal("no port is free for both UDP and TCP")
	}
	k.Server = Server{Host: host, Port: k.udp.LocalAddr().(*net.UDPAddr).Port}
	var running sync.WaitGroup
	if onDatagram == nil {
		k.udp.Close()
	} else {
		running.Go(func() { k.serveDatagrams(onDatagram) })
	}
	if onStream == nil {
		k.tcp.Close()
	} else {
		running.Go(func() { k.serveStreams(onStream) })
	}
	t.Cleanup(func() {
		k.udp.Close()
		k.tcp.Close()
		running.Wait()
	})
	return k
}

func (k *fakeKDC) serveDatagrams(handle datagramHandler) {
	buffer := make([]byte, 1<<16)
	for {
		n, client, err := k.udp.ReadFrom(buffer)
		if err != nil {
			return
		}
		count := k.datagrams.Add(1)
		handle(int(count), slices.Clone(buffer[:n]), func(b []byte) { k.udp.WriteTo(b, client) }, client)
		k.asked <- struct{}{}
	}
}

func (k *fakeKDC) serveStreams(handle streamHandler) {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		conn, err := k.tcp.Accept()
		if err != nil {
			return
		}
		count := k.streams.Add(1)
		k.asked <- struct{}{}
		running.Go(func() {
			defer conn.Close()
			handle(int(count), conn)
		})
	}
}

func (k *fakeKDC) requests() int { return int(k.datagrams.Load() + k.streams.Load()) }

// as is the server with another scheme.
func (k *fakeKDC) as(scheme string) Server {
	s := k.Server
	s.Scheme = scheme
	return s
}

// wait returns when the KDC has got one more request.
func (k *fakeKDC) wait(t *testing.T) {
	t.Helper()
	select {
	case <-k.asked:
	case <-time.After(patience):
		t.Fatal("the KDC was not asked")
	}
}

// answering answers each datagram with the text.
func answering(text string) datagramHandler { return sending(answer(text)) }

// sending answers each datagram with all of these.
func sending(all ...[]byte) datagramHandler {
	return func(_ int, _ []byte, send func([]byte), _ net.Addr) {
		for _, b := range all {
			send(b)
		}
	}
}

// silentDatagrams answers nothing.
func silentDatagrams(int, []byte, func([]byte), net.Addr) {}

// answeringStream reads the request and writes the bytes.
func answeringStream(raw []byte) streamHandler {
	return func(_ int, conn net.Conn) {
		if _, err := readFrame(conn, maxReplySize); err == nil {
			conn.Write(raw)
		}
	}
}

// stallingStream reads until the client goes.
func stallingStream(_ int, conn net.Conn) {
	io.Copy(io.Discard, conn)
}

func framed(message []byte) []byte { return appendFrame(nil, message) }

// newTestSender makes a sender of the servers in their order.
func newTestSender(t testing.TB, cfg Config, servers ...Server) *Sender {
	t.Helper()
	if cfg.Finder == nil {
		cfg.Finder = Static{realm: servers}
	}
	return must.OK(NewSender(cfg))(t)
}

// sent is what a Send in the background returns.
type sent struct {
	reply Reply
	err   error
}

func sendInBackground(ctx context.Context, s *Sender, q Request) <-chan sent {
	c := make(chan sent, 1)
	go func() {
		reply, err := s.Send(ctx, q)
		c <- sent{reply, err}
	}()
	return c
}

// await returns what Send has returned.
func await(t *testing.T, c <-chan sent) (Reply, error) {
	t.Helper()
	select {
	case r := <-c:
		return r.reply, r.err
	case <-time.After(patience):
		t.Fatal("Send does not return")
		return Reply{}, nil
	}
}

// mustReply demands a reply with the text from the server.
func mustReply(t *testing.T, reply Reply, err error, text string, from Server) {
	t.Helper()
	must.Do(t, err)
	if string(reply.Message) != string(answer(text)) || reply.Server != from {
		t.Fatalf("got %q from %s, want %q from %s", reply.Message, reply.Server, answer(text), from)
	}
}

// mustSend sends, and demands a reply with the text from the server.
func mustSend(t *testing.T, s *Sender, q Request, text string, from Server) Reply {
	t.Helper()
	reply, err := s.Send(t.Context(), q)
	mustReply(t, reply, err, text, from)
	return reply
}

// mustAwait is mustSend for a Send in the background.
func mustAwait(t *testing.T, c <-chan sent, text string, from Server) {
	t.Helper()
	reply, err := await(t, c)
	mustReply(t, reply, err, text, from)
}

// declines judges one reply as that of a KDC that cannot serve.
func declines(unavailable []byte) func([]byte) Verdict {
	return func(reply []byte) Verdict {
		if slices.Equal(reply, unavailable) {
			return NextKDC
		}
		return Accept
	}
}

// doubts judges one reply as of a server that did not prove to be a KDC.
func doubts(unproven []byte) func([]byte) Verdict {
	return func(reply []byte) Verdict {
		if slices.Equal(reply, unproven) {
			return Unproven
		}
		return Accept
	}
}

func newRequest() Request { return Request{Realm: realm, Message: requestMessage} }

// fakeResolver knows the addresses and records that the test gives it.
type fakeResolver struct {
	hosts   map[string][]netip.Addr
	srv     func(ctx context.Context, name string) ([]*net.SRV, error)
	lookups atomic.Int64
}

func (r *fakeResolver) LookupSRV(ctx context.Context, _, _, name string) (string, []*net.SRV, error) {
	r.lookups.Add(1)
	records, err := r.srv(ctx, name)
	return name, records, err
}

func (r *fakeResolver) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	r.lookups.Add(1)
	var found []netip.Addr
	for _, addr := range r.hosts[host] {
		if network == "ip" || network == "ip4" && addr.Is4() || network == "ip6" && addr.Is6() {
			found = append(found, addr)
		}
	}
	if len(found) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return found, nil
}
