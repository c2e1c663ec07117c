package kdc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

func TestTCP_BadReplyThenNextKDC(t *testing.T) {
	good := framed(answer("cut"))
	for _, test := range []struct {
		name string
		raw  []byte
		says string
		is   error
	}{
		{"nothing", nil, "without an answer", io.EOF},
		{"half a length", []byte{0, 0}, "after 2 bytes of the reply's length", io.ErrUnexpectedEOF},
		{"empty", []byte{0, 0, 0, 0}, "empty", ErrForeign},
		{"cut", good[:len(good)-1], "cut after", io.ErrUnexpectedEOF},
		{"top bit", []byte{0x80, 0, 0, 1, 'x'}, "top bit", ErrForeign},
		{"4 GiB", []byte{0xff, 0xff, 0xff, 0xff}, "top bit", ErrForeign},
		{"2 GiB", []byte{0x7f, 0xff, 0xff, 0xff}, "max_reply_size", ErrReplyTooBig},
		{"garbage", framed([]byte("garbage")), "not a Kerberos message", ErrForeign},
	} {
		t.Run(test.name, func(t *testing.T) {
			bad := startKDC(t, nil, answeringStream(test.raw))
			s := newTestSender(t, Config{clock: newManualClock()}, bad.as(SchemeTCP))
			_, err := s.Send(t.Context(), newRequest())
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v", err)
			}
			next := startKDC(t, nil, answeringStream(framed(answer("next"))))
			s = newTestSender(t, Config{clock: newManualClock()}, bad.as(SchemeTCP), next.as(SchemeTCP))
			mustSend(t, s, newRequest(), "next", next.as(SchemeTCP))
		})
	}
}

func TestTCP_ResetThenNextKDC(t *testing.T) {
	reset := startKDC(t, nil, func(_ int, conn net.Conn) {
		readFrame(conn, maxReplySize)
		conn.(*net.TCPConn).SetLinger(0)
	})
	next := startKDC(t, nil, answeringStream(framed(answer("next"))))
	s := newTestSender(t, Config{clock: newManualClock()}, reset.as(SchemeTCP), next.as(SchemeTCP))
	q := newRequest()
	q.PreAuth = true
	mustSend(t, s, q, "next", next.as(SchemeTCP))
}

func TestTCP_SilenceOpensAnotherConnection(t *testing.T) {
	for _, preAuth := range []bool{false, true} {
		t.Run(fmt.Sprintf("pre-authentication %t", preAuth), func(t *testing.T) {
			var asked atomic.Int32
			only := startKDC(t, nil, func(n int, conn net.Conn) {
				if asked.Add(1) == 1 {
					stallingStream(n, conn)
					return
				}
				answeringStream(framed(answer("second try")))(n, conn)
			})
			clock := newManualClock()
			s := newTestSender(t, Config{clock: clock}, only.as(SchemeTCP))
			q := newRequest()
			q.PreAuth = preAuth
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			pending := sendInBackground(ctx, s, q)
			only.wait(t)
			if preAuth { // it must not be told twice
				cancel()
				if _, err := await(t, pending); err == nil || asked.Load() != 1 {
					t.Fatalf("asked %d times: %v", asked.Load(), err)
				}
				return
			}
			clock.pass(t, DefaultServerTimeout)
			mustAwait(t, pending, "second try", only.as(SchemeTCP))
		})
	}
}

func TestReplySizeIsBounded(t *testing.T) {
	for extra, want := range map[int]error{0: nil, 1: ErrReplyTooBig} {
		// The header of the element takes 4 bytes.
		message := answer(strings.Repeat("x", minReplySize-4+extra))
		kdc := startKDC(t, nil, answeringStream(framed(message)))
		s := newTestSender(t, Config{clock: newManualClock(), Options: Options{MaxReplySize: minReplySize}}, kdc.as(SchemeTCP))
		reply, err := s.Send(t.Context(), newRequest())
		if !errors.Is(err, want) || want == nil && !bytes.Equal(reply.Message, message) {
			t.Errorf("%d bytes: %v", len(message), err)
		}
	}
}

func TestFrameIsReadWholeFromShortReads(t *testing.T) {
	want := answer(strings.Repeat("x", 5000))
	got, err := readFrame(iotest.OneByteReader(bytes.NewReader(framed(want))), DefaultMaxReplySize)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestTCP_LengthAllocatesLittle(t *testing.T) {
	raw := binary.BigEndian.AppendUint32(nil, maxReplySize)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := readFrame(bytes.NewReader(append(raw, 1, 2, 3)), maxReplySize)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes were allocated for a reply of 3", grown)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(framed(answer("seed")))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 4, 1, 2, 3})
	f.Fuzz(func(t *testing.T, raw []byte) {
		const limit = 1 << 10
		message, err := readFrame(bytes.NewReader(raw), limit)
		if err != nil {
			if message != nil {
				t.Error("a message beside an error")
			}
			return
		}
		if len(message) == 0 || len(message) > limit || !bytes.HasPrefix(raw, framed(message)) {
			t.Errorf("%x was read as %x", raw, message)
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add(krbError(messages.KRB_ERR_RESPONSE_TOO_BIG))
	f.Add(krbError(29))
	f.Add(answer("seed"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if isTooBig(b) && b[0] != 0x7e {
			t.Errorf("%x is taken for a KRB-ERROR", b)
		}
		if isMessage(b) && (len(b) < 2 || b[0]>>6 != 1) {
			t.Errorf("%x is taken for a Kerberos message", b)
		}
	})
}
