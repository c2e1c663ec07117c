package kdc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

func TestSend_HedgesAndSkipsDead(t *testing.T) {
	for _, test := range []struct {
		name     string
		scheme   string
		datagram datagramHandler
		stream   streamHandler
		hedged   bool
	}{
		{"refusing", SchemeAny, nil, nil, false},
		{"silent", SchemeAny, silentDatagrams, stallingStream, true},
		{"accepting and then stalling", SchemeTCP, nil, stallingStream, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.datagram == nil && test.scheme == SchemeAny {
				wantRefusals(t)
			}
			first := startKDC(t, test.datagram, test.stream)
			second := startKDC(t, answering("second"), answeringStream(framed(answer("second"))))
			clock, seen := newManualClock(), newRecorder()
			server := first.as(test.scheme)
			s := newTestSender(t, Config{clock: clock, Observer: seen}, server, second.Server)

			pending := sendInBackground(t.Context(), s, newRequest())
			if test.hedged {
				first.wait(t)
				clock.wait(t, DefaultHedgeDelay)
				clock.Advance(DefaultHedgeDelay - 1)
				if n := second.requests(); n != 0 {
					t.Errorf("the second KDC was asked %d times before the hedge delay", n)
				}
				clock.Advance(1)
			}
			mustAwait(t, pending, "second", second.Server)
			hedges := 0
			if test.hedged {
				hedges = 1
			}
			if n := seen.count(Hedging, second.Server); n != hedges {
				t.Errorf("%d hedges were observed, want %d", n, hedges)
			}
			if seen.count(Dead, server) != 1 {
				t.Error("the first KDC was not observed to be dead")
			}

			asked := first.requests()
			for i := range 20 {
				q := newRequest()
				q.PreAuth = i%2 == 0
				mustSend(t, s, q, "second", second.Server) // the clock does not move
			}
			if n := first.requests(); n != asked {
				t.Errorf("the dead KDC was asked %d times more", n-asked)
			}
			if n := second.requests(); n != 21 {
				t.Errorf("the second KDC was asked %d times, want 21", n)
			}
		})
	}
}

func TestSend_DeadKDCRecovers(t *testing.T) {
	var up atomic.Bool
	first := startKDC(t, func(_ int, _ []byte, send func([]byte), _ net.Addr) {
		if up.Load() {
			send(answer("first"))
		}
	}, nil)
	second := startKDC(t, answering("second"), nil)
	clock, seen := newManualClock(), newRecorder()
	s := newTestSender(t, Config{clock: clock, Observer: seen}, first.as(SchemeUDP), second.as(SchemeUDP))

	pending := sendInBackground(t.Context(), s, newRequest())
	clock.pass(t, DefaultHedgeDelay)
	mustAwait(t, pending, "second", second.as(SchemeUDP))

	up.Store(true)
	clock.Advance(deadMin)
	mustSend(t, s, newRequest(), "first", first.as(SchemeUDP))
	if seen.count(Alive, first.as(SchemeUDP)) != 1 {
		t.Error("it was not observed that the KDC is alive again")
	}
	for _, h := range s.Health() {
		if h.Server == first.as(SchemeUDP) {
			if h.Failures != 0 || !h.DeadUntil.IsZero() || h.LastError == nil || h.Asked != 2 || h.Answered != 1 || !h.LastAnswer.Equal(clock.Now()) {
				t.Errorf("health is %+v", h)
			}
			return
		}
	}
	t.Errorf("health does not know the KDC: %+v", s.Health())
}

func TestMemoryPutsLastForGrowingTime(t *testing.T) {
	m, now := NewMemory(), time.Unix(1_800_000_000, 0)
	p := peer{server: Server{Host: "a", Port: 88}}
	for _, seconds := range []int{5, 10, 20, 40, 60, 60, 60} {
		want := time.Duration(seconds) * time.Second
		until := m.failed(p, now, now, errors.New("refused"))
		if got := until.Sub(now); got != want {
			t.Errorf("put last for %s, want %s", got, want)
		}
		if together := m.failed(p, now.Add(-1), now.Add(1), errors.New("refused")); !together.Equal(until) {
			t.Errorf("a failure of the same time moved the end from %s to %s", until, together)
		}
		if !m.dead(p, until.Add(-1)) || m.dead(p, until) {
			t.Error("it is not dead exactly until then")
		}
		now = until
	}
	if !m.answered(p, now) || m.dead(p, now) {
		t.Error("an answer does not clear the memory")
	}
	if until := m.failed(p, now, now, errors.New("refused")); until.Sub(now) != deadMin {
		t.Error("after an answer the time does not start again")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m, now := NewMemory(), time.Unix(1_800_000_000, 0)
	for port := range maxRemembered + 100 {
		p := peer{server: Server{Host: "a", Port: port}}
		m.preferTCP(p.server, true)
		m.failed(p, now, now.Add(time.Duration(port)), errors.New("refused"))
	}
	if n := len(m.Health()); n != maxRemembered {
		t.Errorf("%d are remembered, want %d", n, maxRemembered)
	}
	if m.dead(peer{server: Server{Host: "a", Port: 0}}, now) {
		t.Error("the oldest was not forgotten")
	}
	if len(m.streams) > maxRemembered {
		t.Errorf("%d preferences are remembered", len(m.streams))
	}
}

func TestAllDeadAreStillAsked(t *testing.T) {
	wantRefusals(t)
	first, second := startKDC(t, nil, nil), startKDC(t, nil, nil)
	seen := newRecorder()
	s := newTestSender(t, Config{clock: newManualClock(), Observer: seen}, first.Server, second.Server)
	for range 3 {
		_, err := s.Send(t.Context(), newRequest())
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) {
			t.Fatalf("got %v", err)
		}
		if unreachable.Cause != nil || len(unreachable.Attempts) != 4 {
			t.Errorf("got %d attempts, cause %v; want 4, for UDP and TCP at each", len(unreachable.Attempts), unreachable.Cause)
		}
		for _, server := range []Server{first.Server, second.Server} {
			if !strings.Contains(err.Error(), server.String()) {
				t.Errorf("%q does not name %s", err, server)
			}
		}
	}
	if n := seen.count(Asking, first.Server); n != 3 {
		t.Errorf("the first was asked %d times, want 3", n)
	}
}

func TestPreAuthIsNeverAtTwoKDCsAtOnce(t *testing.T) {
	var open, most atomic.Int64
	serve := func(reply []byte) streamHandler {
		return func(n int, conn net.Conn) {
			if now := open.Add(1); now > most.Load() {
				most.Store(now)
			}
			answeringStream(reply)(n, conn)
			if reply == nil {
				stallingStream(n, conn)
			}
			open.Add(-1)
		}
	}
	first, second := startKDC(t, nil, serve(nil)), startKDC(t, nil, serve(framed(answer("second"))))
	clock, seen := newManualClock(), newRecorder()
	s := newTestSender(t, Config{clock: clock, Observer: seen}, first.as(SchemeTCP), second.as(SchemeTCP))
	q := newRequest()
	q.PreAuth = true

	pending := sendInBackground(t.Context(), s, q)
	clock.wait(t, DefaultServerTimeout)
	for range 9 {
		clock.Advance(DefaultHedgeDelay)
	}
	if n := second.requests(); n != 0 {
		t.Errorf("the second KDC was asked %d times while the first was not given up", n)
	}
	clock.Advance(DefaultHedgeDelay)
	mustAwait(t, pending, "second", second.as(SchemeTCP))
	if seen.count(Hedging, second.as(SchemeTCP)) != 0 {
		t.Error("the request was hedged")
	}
	firstSent := slices.IndexFunc(seen.decisions, func(d Decision) bool { return d.Kind == Dead && d.Server == first.as(SchemeTCP) })
	secondSent := slices.IndexFunc(seen.decisions, func(d Decision) bool { return d.Kind == Asking && d.Server == second.as(SchemeTCP) })
	if firstSent < 0 || secondSent < firstSent {
		t.Error("the second KDC was asked before the first was given up")
	}
}

func TestSend_PreAuthRefusedThenNext(t *testing.T) {
	wantRefusals(t)
	first, second := startKDC(t, nil, nil), startKDC(t, answering("second"), nil)
	s := newTestSender(t, Config{clock: newManualClock()}, first.Server, second.Server)
	q := newRequest()
	q.PreAuth = true
	mustSend(t, s, q, "second", second.Server)
}

func TestPreAuthSharesTheTimeAmongKDCs(t *testing.T) {
	kdcs := []*fakeKDC{startKDC(t, nil, stallingStream), startKDC(t, nil, stallingStream), startKDC(t, nil, stallingStream), startKDC(t, nil, answeringStream(framed(answer("last"))))}
	clock := newManualClock()
	clock.Advance(time.Since(clock.Now()) + 24*time.Hour) // the sockets go by the machine's clock
	s := newTestSender(t, Config{clock: clock},
		kdcs[0].as(SchemeTCP), kdcs[1].as(SchemeTCP), kdcs[2].as(SchemeTCP), kdcs[3].as(SchemeTCP))
	q := newRequest()
	q.PreAuth = true
	pending := sendInBackground(deadlineContext{t.Context(), clock.Now().Add(4 * time.Second)}, s, q)
	for range 3 {
		clock.pass(t, time.Second)
	}
	mustAwait(t, pending, "last", kdcs[3].as(SchemeTCP))
}

func TestSend_DeclinedThenNext(t *testing.T) {
	unavailable := krbError(29)
	first := startKDC(t, nil, answeringStream(framed(unavailable)))
	second := startKDC(t, nil, answeringStream(framed(answer("second"))))
	s := newTestSender(t, Config{clock: newManualClock()}, first.as(SchemeTCP), second.as(SchemeTCP))
	q := newRequest()
	q.Check = declines(unavailable)
	reply, err := s.Send(t.Context(), q)
	mustReply(t, reply, err, "second", second.as(SchemeTCP))

	alone := newTestSender(t, Config{clock: newManualClock()}, first.as(SchemeTCP))
	reply, err = alone.Send(t.Context(), q)
	if err != nil || reply.Verdict != NextKDC || !slices.Equal(reply.Message, unavailable) {
		t.Errorf("got %+v, %v; want what the only KDC said", reply, err)
	}
}

func TestSend_UnprovenThenNext(t *testing.T) {
	other := answer("other")
	first := startKDC(t, sending(other), answeringStream(framed(other)))
	second := startKDC(t, nil, answeringStream(framed(answer("second"))))
	s := newTestSender(t, Config{clock: newManualClock()}, first.Server, second.as(SchemeTCP))
	q := newRequest()
	q.Check = doubts(other)
	mustSend(t, s, q, "second", second.as(SchemeTCP))

	// The clock stands still: nothing waits for another answer.
	alone := newTestSender(t, Config{clock: newManualClock()}, first.Server)
	reply, err := alone.Send(t.Context(), q)
	if err != nil || reply.Verdict != Unproven || reply.Protocol != TCP || !slices.Equal(reply.Message, other) {
		t.Errorf("got %+v, %v; want what the only KDC said over TCP", reply, err)
	}
	if h := alone.Health()[0]; h.PassedOver != 2 || h.TCPFirst {
		t.Errorf("health is %+v", h)
	}
}

// A forged datagram does not end the search: the KDC's own reply counts, by UDP or TCP.
func TestSend_UnprovenDatagram(t *testing.T) {
	forged := answer("forged")
	q := newRequest()
	q.Check = doubts(forged)
	for _, scheme := range []string{SchemeAny, SchemeUDP} {
		kdc := startKDC(t, sending(forged, answer("true")), nil)
		mustSend(t, newTestSender(t, Config{clock: newManualClock()}, kdc.as(scheme)), q, "true", kdc.as(scheme))
	}
	kdc := startKDC(t, sending(forged), answeringStream(framed(answer("true"))))
	mustSend(t, newTestSender(t, Config{clock: newManualClock()}, kdc.Server), q, "true", kdc.Server)
	kdc = startKDC(t, sending(forged), nil)
	s := newTestSender(t, Config{Timeout: 200 * time.Millisecond}, kdc.as(SchemeUDP))
	if _, err := s.Send(t.Context(), q); !errors.Is(err, ErrNoAnswer) || !errors.Is(err, ErrForeign) {
		t.Errorf("got %v, want that no other reply came", err)
	}
}

func TestSecondOpinionAsksOthersFirst(t *testing.T) {
	first, second := startKDC(t, answering("first"), nil), startKDC(t, answering("second"), nil)
	s := newTestSender(t, Config{clock: newManualClock()}, first.Server, second.Server)
	q := newRequest()
	q.Avoid = []Server{first.as(SchemeTCP)} // the same KDC by another protocol
	mustSend(t, s, q, "second", second.Server)
	q.Avoid = []Server{first.Server, second.Server}
	mustSend(t, s, q, "first", first.Server)
}

func TestEveryAddressOfAHostIsTried(t *testing.T) {
	kdc := startKDC(t, nil, answeringStream(framed(answer("here"))))
	server := Server{Scheme: SchemeTCP, Host: "kdc.example.com", Port: kdc.Port}
	resolver := &fakeResolver{hosts: map[string][]netip.Addr{"kdc.example.com": {
		netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("2001:db8::1"),
	}}}
	clock := newManualClock()
	s := newTestSender(t, Config{Resolver: resolver, clock: clock, Options: Options{IPVersion: 4}}, server)
	reply := mustSend(t, s, newRequest(), "here", server)
	if reply.Addr != kdc.tcp.Addr().String() {
		t.Errorf("the reply is said to come from %s", reply.Addr)
	}
	health := s.Health()
	if len(health) != 2 || health[0].Addr != "127.0.0.1" || health[0].Failures != 0 || health[1].Addr != "127.0.0.9" || health[1].Failures != 1 {
		t.Errorf("health is %+v", health)
	}
}

func TestSend_NoUsableAddress(t *testing.T) {
	resolver := &fakeResolver{hosts: map[string][]netip.Addr{"v4.example.com": {netip.MustParseAddr("127.0.0.1")}}}
	s := newTestSender(t, Config{Resolver: resolver, clock: newManualClock(), Options: Options{LocalAddress: "::1"}},
		Server{Host: "v4.example.com", Port: 88}, Server{Host: "127.0.0.1", Port: 88}, Server{Host: "unknown.example.com", Port: 88})
	_, err := s.Send(t.Context(), newRequest())
	for _, want := range []string{"v4.example.com: it has no address", "127.0.0.1: not supported", "unknown.example.com: its address could not be looked up"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestIPv6LoopbackServes(t *testing.T) {
	probe, err := net.ListenPacket("udp", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6 loopback")
	}
	probe.Close()
	kdc := startKDCAt(t, "::1", answering("six"), answeringStream(framed(answer("six"))))
	for _, scheme := range []string{SchemeUDP, SchemeTCP} {
		s := newTestSender(t, Config{clock: newManualClock(), Options: Options{IPVersion: 6}}, kdc.as(scheme))
		mustSend(t, s, newRequest(), "six", kdc.as(scheme))
	}
}

func TestSend_Cancelled(t *testing.T) {
	first, second := startKDC(t, silentDatagrams, stallingStream), startKDC(t, nil, stallingStream)
	clock := newManualClock()
	s := newTestSender(t, Config{clock: clock}, first.Server, second.as(SchemeTCP))
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	pending := sendInBackground(ctx, s, newRequest())
	first.wait(t)
	clock.pass(t, DefaultHedgeDelay)
	clock.pass(t, retransmitFirst)
	first.wait(t)
	cancel()
	_, err := await(t, pending)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	goleak.VerifyNone(t, before)
	for _, h := range s.Health() {
		if h.Failures != 0 {
			t.Errorf("%s is held dead though the caller went away", h.Server)
		}
	}
}

func TestSilenceEndsAtTheTimeout(t *testing.T) {
	kdc := startKDC(t, silentDatagrams, nil)
	s := newTestSender(t, Config{HedgeDelay: time.Millisecond, Timeout: 100 * time.Millisecond}, kdc.as(SchemeUDP))
	began := time.Now()
	_, err := s.Send(t.Context(), newRequest())
	var unreachable *UnreachableError
	if !errors.As(err, &unreachable) || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrNoAnswer) {
		t.Fatalf("got %v", err)
	}
	if len(unreachable.Attempts) != 1 || unreachable.Attempts[0].Addr != "127.0.0.1" || unreachable.Attempts[0].Protocol != UDP {
		t.Errorf("got attempts %v", unreachable.Attempts)
	}
	if h := s.Health(); h[0].Failures != 1 || h[0].DeadUntil.Sub(began) < deadMin {
		t.Errorf("health is %+v", h)
	}
}

func TestConcurrentSendsQueue(t *testing.T) {
	release := make(chan struct{})
	kdc := startKDC(t, nil, func(n int, conn net.Conn) {
		<-release
		answeringStream(framed(answer("late")))(n, conn)
	})
	s := newTestSender(t, Config{clock: newManualClock(), MaxConcurrent: 2}, kdc.as(SchemeTCP))
	var pending []<-chan sent
	for range 2 {
		pending = append(pending, sendInBackground(t.Context(), s, newRequest()))
	}
	kdc.wait(t)
	kdc.wait(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Send(ctx, newRequest()); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "waiting for other exchanges") {
		t.Errorf("got %v", err)
	}
	pending = append(pending, sendInBackground(t.Context(), s, newRequest()))
	close(release)
	for _, c := range pending {
		mustAwait(t, c, "late", kdc.as(SchemeTCP))
	}
}

func TestFinderErrorIsReturned(t *testing.T) {
	s := newTestSender(t, Config{}, Server{Host: "a", Port: 88})
	q := newRequest()
	q.Realm = "OTHER.REALM"
	if _, err := s.Send(t.Context(), q); !errors.Is(err, ErrNoKDC) || !strings.Contains(err.Error(), "OTHER.REALM") {
		t.Errorf("got %v", err)
	}
}

func TestObserver(t *testing.T) {
	kdc := startKDC(t, sending([]byte("garbage"), krbError(messages.KRB_ERR_RESPONSE_TOO_BIG)), answeringStream(framed(answer("big"))))
	seen := newRecorder()
	s := newTestSender(t, Config{clock: newManualClock(), Observer: seen}, kdc.Server)
	mustSend(t, s, newRequest(), "big", kdc.Server)

	type line struct {
		direction Direction
		protocol  Protocol
		data      string
		failed    bool
	}
	want := []line{
		{Sent, UDP, string(requestMessage), false},
		{Received, UDP, "garbage", true},
		{Received, UDP, string(krbError(messages.KRB_ERR_RESPONSE_TOO_BIG)), false},
		{Sent, TCP, string(requestMessage), false},
		{Received, TCP, string(answer("big")), false},
	}
	var got []line
	for _, m := range seen.messages {
		got = append(got, line{m.Direction, m.Protocol, string(m.Data), m.Err != nil})
		if m.Size != len(m.Data) || m.Remote != kdc.tcp.Addr().String() || m.Local == "" || m.Realm != realm || m.Server != kdc.Server {
			t.Errorf("message event %+v", m)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got messages %v, want %v", got, want)
	}
	var kinds []DecisionKind
	for _, d := range seen.decisions {
		kinds = append(kinds, d.Kind)
	}
	if wanted := []DecisionKind{Asking, UsingTCP, PassedOver}; !slices.Equal(kinds, wanted) {
		t.Errorf("got decisions %v, want %v", kinds, wanted)
	}
}

func TestSlowNameIsHedgedAndPutLast(t *testing.T) {
	second := startKDC(t, answering("second"), nil)
	looking := make(chan struct{}, 10)
	slow := slowResolver{looking}
	clock := newManualClock()
	s := newTestSender(t, Config{clock: clock, Resolver: slow}, Server{Host: "slow.example.com", Port: 88}, second.Server)
	pending := sendInBackground(t.Context(), s, newRequest())
	<-looking
	clock.pass(t, DefaultHedgeDelay)
	mustAwait(t, pending, "second", second.Server)
	mustSend(t, s, newRequest(), "second", second.Server)
	if len(looking) != 0 {
		t.Error("the slow name was looked up again at once")
	}
}

// slowResolver answers when the caller has gone.
type slowResolver struct{ looking chan struct{} }

func (slowResolver) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", nil, errors.New("not asked for")
}

func (r slowResolver) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	r.looking <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestManySendsAtOnceAreAllAnswered(t *testing.T) {
	wantRefusals(t)
	first := startKDC(t, nil, nil)
	second := startKDC(t, func(n int, _ []byte, send func([]byte), _ net.Addr) {
		if n%2 == 0 {
			send([]byte("garbage"))
		}
		send(krbError(messages.KRB_ERR_RESPONSE_TOO_BIG))
	}, answeringStream(framed(answer("second"))))
	s := newTestSender(t, Config{clock: newManualClock()}, first.Server, second.Server)
	before := goleak.IgnoreCurrent()
	const many = 300
	var pending []<-chan sent
	for range many {
		pending = append(pending, sendInBackground(t.Context(), s, newRequest()))
	}
	for _, c := range pending {
		mustAwait(t, c, "second", second.Server)
	}
	goleak.VerifyNone(t, before)
	if n := second.streams.Load(); n != many {
		t.Errorf("the KDC was asked %d times by TCP, want %d", n, many)
	}
}

func TestNamesForLogs(t *testing.T) {
	for got, want := range map[string]string{
		Sent.String(): "sent", Received.String(): "received", Asking.String(): "asking", GivenUp.String(): "given up",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// deadlineContext states a deadline by a clock of the test's own.
type deadlineContext struct {
	context.Context
	deadline time.Time
}

func (c deadlineContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Each connection gets a message of its own, made for its address, and Check alone judges the replies.
func TestSend_ComposedMessages(t *testing.T) {
	const text = "not a Kerberos message"
	k := startKDC(t, func(_ int, request []byte, send func([]byte), _ net.Addr) { send(append([]byte(text), request...)) },
		func(_ int, conn net.Conn) {
			if request, err := readFrame(conn, maxReplySize); err == nil {
				_, _ = conn.Write(framed(append([]byte(text), request...)))
			}
		})
	for protocol, tcp := range map[Protocol]bool{UDP: false, TCP: true} {
		var made []netip.Addr
		sender := newTestSender(t, Config{}, k.as(SchemeAny))
		reply, err := sender.Send(t.Context(), Request{
			Realm: realm, TCPOnly: tcp,
			Compose: func(local netip.Addr) ([]byte, error) {
				made = append(made, local)
				return []byte("composed"), nil
			},
			Check: func(reply []byte) Verdict {
				if string(reply) != text+"composed" {
					return Foreign
				}
				return Accept
			},
		})
		if err != nil || reply.Protocol != protocol || len(made) != 1 || !made[0].IsLoopback() {
			t.Errorf("%s: %v, %s, made for %v", protocol, err, reply.Protocol, made)
		}
		failed := errors.New("no message")
		_, err = sender.Send(t.Context(), Request{Realm: realm, TCPOnly: tcp, Compose: func(netip.Addr) ([]byte, error) { return nil, failed }})
		if !errors.Is(err, failed) {
			t.Errorf("%s: %v", protocol, err)
		}
	}
}
