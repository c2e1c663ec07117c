package kdc

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestDatagramIsSentAgainWhenLost(t *testing.T) {
	kdc := startKDC(t, func(n int, _ []byte, send func([]byte), _ net.Addr) {
		if n == 3 {
			send(answer("third"))
		}
	}, nil)
	clock, seen := newManualClock(), newRecorder()
	s := newTestSender(t, Config{clock: clock, Observer: seen}, kdc.as(SchemeUDP))
	pending := sendInBackground(t.Context(), s, newRequest())
	clock.pass(t, time.Second)
	clock.pass(t, 2*time.Second)
	mustAwait(t, pending, "third", kdc.as(SchemeUDP))
	if n := kdc.datagrams.Load(); n != 3 {
		t.Errorf("%d datagrams came, want 3", n)
	}
	if n := seen.count(Retransmitting, kdc.as(SchemeUDP)); n != 2 {
		t.Errorf("%d retransmissions were observed, want 2", n)
	}
}

func TestForeignDatagramsArePassedOver(t *testing.T) {
	foreign := answer("another request's")
	kdc := startKDC(t, sending([]byte("garbage"), nil, append(answer("trailing"), 0), []byte{0x6b, 0x80, 0, 0},
		foreign, requestMessage, answer("right")), nil)
	seen := newRecorder()
	s := newTestSender(t, Config{clock: newManualClock(), Observer: seen}, kdc.as(SchemeUDP))
	q := newRequest()
	q.Check = func(reply []byte) Verdict {
		if slices.Equal(reply, foreign) {
			return Foreign
		}
		return Accept
	}
	mustSend(t, s, q, "right", kdc.as(SchemeUDP))
	if n := seen.count(PassedOver, kdc.as(SchemeUDP)); n != 1 {
		t.Errorf("a flood of datagrams is %d decisions, want 1", n)
	}
	for _, d := range seen.decisions {
		if d.Kind == PassedOver && (d.Datagrams != 6 || !errors.Is(d.Reason, ErrForeign)) {
			t.Errorf("of 6 datagrams it tells %+v", d)
		}
	}
	foreignMessages := 0
	for _, m := range seen.messages {
		if errors.Is(m.Err, ErrForeign) {
			foreignMessages++
		}
	}
	if foreignMessages != 6 {
		t.Errorf("%d foreign messages were observed, want each of 6", foreignMessages)
	}
	if h := s.Health()[0]; h.PassedOver != 6 || h.Failures != 0 {
		t.Errorf("health is %+v", h)
	}
}

func TestUDP_ErrorNamesPassedOver(t *testing.T) {
	kdc := startKDC(t, sending([]byte("garbage")), nil)
	s := newTestSender(t, Config{Timeout: 200 * time.Millisecond}, kdc.as(SchemeUDP))
	_, err := s.Send(t.Context(), newRequest())
	if !errors.Is(err, ErrNoAnswer) || !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "passed over") {
		t.Errorf("got %v", err)
	}
}

func TestDatagramsOfOthersDoNotArrive(t *testing.T) {
	stranger := must.OK(net.ListenPacket("udp", "127.0.0.1:0"))(t)
	defer stranger.Close()
	kdc := startKDC(t, func(_ int, _ []byte, send func([]byte), client net.Addr) {
		stranger.WriteTo(answer("forged"), client)
		send(answer("true"))
	}, nil)
	s := newTestSender(t, Config{clock: newManualClock()}, kdc.as(SchemeUDP))
	mustSend(t, s, newRequest(), "true", kdc.as(SchemeUDP))
	if n := s.Health()[0].PassedOver; n != 0 {
		t.Errorf("%d datagrams of a stranger arrived", n)
	}
}

func TestUDP_TooBigUsesTCP(t *testing.T) {
	kdc := startKDC(t, sending(krbError(messages.KRB_ERR_RESPONSE_TOO_BIG)), answeringStream(framed(answer("big"))))
	s := newTestSender(t, Config{clock: newManualClock()}, kdc.Server)
	for range 3 {
		reply := mustSend(t, s, newRequest(), "big", kdc.Server)
		if reply.Protocol != TCP {
			t.Errorf("the reply came by %s", reply.Protocol)
		}
	}
	if udp, tcp := kdc.datagrams.Load(), kdc.streams.Load(); udp != 1 || tcp != 3 {
		t.Errorf("asked %d times by UDP and %d by TCP, want 1 and 3", udp, tcp)
	}
	if !s.Health()[0].TCPFirst {
		t.Error("health does not tell that TCP comes first")
	}
}

func TestUDP_ForgedErrors(t *testing.T) {
	unavailable := krbError(29)
	for name, forged := range map[string][]byte{"too big": krbError(messages.KRB_ERR_RESPONSE_TOO_BIG), "unavailable": unavailable} {
		for _, scheme := range []string{SchemeAny, SchemeUDP} {
			t.Run(name+" "+scheme, func(t *testing.T) {
				kdc := startKDC(t, sending(forged, answer("true")), nil)
				s := newTestSender(t, Config{clock: newManualClock()}, kdc.as(scheme))
				q := newRequest()
				q.Check = declines(unavailable)
				mustSend(t, s, q, "true", kdc.as(scheme))
			})
		}
	}
}

func TestErrorOverUDPIsVerifiedOverTCP(t *testing.T) {
	unavailable := krbError(29)
	kdc := startKDC(t, sending(unavailable), answeringStream(framed(answer("true"))))
	s := newTestSender(t, Config{clock: newManualClock()}, kdc.Server)
	q := newRequest()
	q.Check = declines(unavailable)
	mustSend(t, s, q, "true", kdc.Server)
	if s.Health()[0].TCPFirst {
		t.Error("a forged error made TCP the first choice")
	}
}

func TestTooBigWithoutTCPIsExplained(t *testing.T) {
	kdc := startKDC(t, sending(krbError(messages.KRB_ERR_RESPONSE_TOO_BIG)), nil)
	for _, scheme := range []string{SchemeAny, SchemeUDP} {
		clock, seen := newManualClock(), newRecorder()
		s := newTestSender(t, Config{clock: clock, Observer: seen}, kdc.as(scheme))
		pending := sendInBackground(t.Context(), s, newRequest())
		seen.wait(t)
		clock.pass(t, retransmitFirst)
		_, err := await(t, pending)
		if !errors.Is(err, ErrReplyTooBig) || !strings.Contains(err.Error(), "for UDP") {
			t.Errorf("got %v", err)
		}
	}
}

func TestUDP_SilenceAddsTCP(t *testing.T) {
	for _, preAuth := range []bool{false, true} {
		kdc := startKDC(t, silentDatagrams, answeringStream(framed(answer("by tcp"))))
		clock, seen := newManualClock(), newRecorder()
		s := newTestSender(t, Config{clock: clock, Observer: seen}, kdc.Server)
		q := newRequest()
		q.PreAuth = preAuth
		pending := sendInBackground(t.Context(), s, q)
		clock.pass(t, retransmitFirst)
		mustAwait(t, pending, "by tcp", kdc.Server)
		mustSend(t, s, q, "by tcp", kdc.Server)
		datagrams := 0
		for _, m := range seen.messages {
			if m.Direction == Sent && m.Protocol == UDP && m.Err == nil {
				datagrams++
			}
		}
		// A request with pre-authentication is either sent again or by TCP.
		if preAuth && datagrams != 1 || datagrams > 2 {
			t.Errorf("it was sent %d times by UDP, pre-authentication %t", datagrams, preAuth)
		}
	}
}

func TestRefusedUDPIsFollowedByTCPAtOnce(t *testing.T) {
	wantRefusals(t)
	kdc := startKDC(t, nil, answeringStream(framed(answer("by tcp"))))
	s := newTestSender(t, Config{clock: newManualClock()}, kdc.Server)
	mustSend(t, s, newRequest(), "by tcp", kdc.Server)
}

func TestLongMessageTriesTCPFirst(t *testing.T) {
	long := make([]byte, 200)
	for _, test := range []struct {
		name     string
		stream   streamHandler
		udp, tcp int64
		protocol Protocol
	}{
		{"and stays there", answeringStream(framed(answer("reply"))), 0, 1, TCP},
		{"and UDP when that is refused", nil, 1, 0, UDP},
	} {
		t.Run(test.name, func(t *testing.T) {
			kdc := startKDC(t, answering("reply"), test.stream)
			s := newTestSender(t, Config{clock: newManualClock(), Options: Options{UDPPreferenceLimit: 199}}, kdc.Server)
			q := newRequest()
			q.Message = long
			reply, err := s.Send(t.Context(), q)
			mustReply(t, reply, err, "reply", kdc.Server)
			if udp, tcp := kdc.datagrams.Load(), kdc.streams.Load(); reply.Protocol != test.protocol || udp != test.udp || tcp != test.tcp {
				t.Errorf("%s after %d datagrams and %d streams", reply.Protocol, udp, tcp)
			}
			q.Message = long[:199]
			if reply, err = s.Send(t.Context(), q); err != nil || reply.Protocol != UDP {
				t.Errorf("a message of the limit's length: %s, %v", reply.Protocol, err)
			}
		})
	}
}

func TestTCPOnlyKeepsOffUDP(t *testing.T) {
	kdc := startKDC(t, answering("udp"), answeringStream(framed(answer("tcp"))))
	s := newTestSender(t, Config{clock: newManualClock()}, kdc.Server)
	q := newRequest()
	q.TCPOnly = true
	reply, err := s.Send(t.Context(), q)
	mustReply(t, reply, err, "tcp", kdc.Server)
	s = newTestSender(t, Config{clock: newManualClock()}, kdc.as(SchemeUDP))
	if _, err = s.Send(t.Context(), q); !errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if n := kdc.datagrams.Load(); n != 0 {
		t.Errorf("%d datagrams came", n)
	}
}

// TCP is preferred to a KDC that speaks UDP only, and that is asked where there is no other.
func TestPreferTCP(t *testing.T) {
	kdc := startKDC(t, answering("udp"), answeringStream(framed(answer("tcp"))))
	q := newRequest()
	q.PreferTCP = true
	only := kdc.as(SchemeUDP)
	s := newTestSender(t, Config{clock: newManualClock()}, only, kdc.Server)
	reply, err := s.Send(t.Context(), q)
	mustReply(t, reply, err, "tcp", kdc.Server)
	if n := kdc.datagrams.Load(); n != 0 {
		t.Errorf("%d datagrams came", n)
	}
	s = newTestSender(t, Config{clock: newManualClock()}, only)
	reply, err = s.Send(t.Context(), q)
	mustReply(t, reply, err, "udp", only)
}

func TestUDP_DatagramAboveLimit(t *testing.T) {
	kdc := startKDC(t, sending(answer(strings.Repeat("x", minReplySize)), answer("short")), nil)
	s := newTestSender(t, Config{clock: newManualClock(), Options: Options{MaxReplySize: minReplySize}}, kdc.as(SchemeUDP))
	mustSend(t, s, newRequest(), "short", kdc.as(SchemeUDP))
}

func TestDeadlineOfTheContextEndsTheWait(t *testing.T) {
	kdc := startKDC(t, silentDatagrams, nil)
	s := newTestSender(t, Config{clock: newManualClock()}, kdc.as(SchemeUDP))
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	if _, err := s.Send(ctx, newRequest()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
