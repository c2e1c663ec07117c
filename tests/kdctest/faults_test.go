package kdctest_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// eager starts a realm whose users log in without proof: each AS-REQ is answered with
// a ticket.
func eager(t *testing.T) (*kdctest.KDC, enctype.Key) {
	t.Helper()
	realm := kdctest.NewRealm("R")
	realm.AddUser("alice", "secret", kdctest.With(kdctest.NoPreAuth))
	realm.AddUser("bob", "other", kdctest.With(kdctest.NoPreAuth))
	return start(t, realm), passwordKey(t, "secret", "Ralice")
}

func nonceOf(t *testing.T, reply []byte, key enctype.Key) uint32 {
	t.Helper()
	_, part, err := open(t, reply, key, enctype.KEY_USAGE_AS_REP)
	if err != nil {
		t.Fatal(err)
	}
	return part.Nonce
}

func TestSilent(t *testing.T) {
	kdc, key := eager(t)
	kdc.Use(kdctest.Times(1, kdctest.UDP(kdctest.Silent())), kdctest.TCP(kdctest.Times(1, kdctest.Silent())))
	d := dialDatagrams(t, kdc)
	d.send(t, asReq("R", "alice", 1).Marshal())
	for kdc.Counts().ASReq != 1 {
		runtime.Gosched() // the datagram is on its way
	}
	s := dialStream(t, kdc)
	s.send(t, asReq("R", "alice", 3).Marshal())
	// Only the second question of each is answered.
	s.send(t, asReq("R", "alice", 4).Marshal())
	if m, err := s.receive(); err != nil || nonceOf(t, m, key) != 4 {
		t.Errorf("stream: %v", err)
	}
	d.send(t, asReq("R", "alice", 2).Marshal())
	if m := d.receive(t); nonceOf(t, m, key) != 2 {
		t.Error("the silenced datagram was answered")
	}
}

func TestLose(t *testing.T) {
	kdc, key := eager(t)
	kdc.Use(kdctest.Every(2, kdctest.Lose()))
	s := dialStream(t, kdc)
	d := dialDatagrams(t, kdc)
	for nonce := uint32(1); nonce <= 4; nonce++ {
		d.send(t, asReq("R", "alice", nonce).Marshal())
		if nonce%2 == 1 {
			if got := nonceOf(t, d.receive(t), key); got != nonce {
				t.Errorf("answer to %d, want %d", got, nonce)
			}
			continue
		}
		for kdc.Counts().Lost != int(nonce/2) {
			runtime.Gosched() // the datagram is on its way
		}
	}
	s.send(t, asReq("R", "alice", 5).Marshal())
	if m, err := s.receive(); err != nil || nonceOf(t, m, key) != 5 {
		t.Errorf("stream: %v", err)
	}
	if c := kdc.Counts(); c.UDP != 4 || c.Lost != 2 || c.ASReq != 3 || c.ASRep != 3 {
		t.Errorf("counts %+v", c)
	}
}

func TestRetransmission(t *testing.T) {
	kdc, _ := eager(t)
	kdc.Use(kdctest.Times(1, kdctest.LoseReply()))
	d := dialDatagrams(t, kdc)
	m := asReq("R", "alice", 1).Marshal()
	d.send(t, m)
	for kdc.Counts().ASReq != 1 {
		runtime.Gosched() // its answer is lost
	}
	d.send(t, m)
	first := d.receive(t)
	d.send(t, m)
	if !bytes.Equal(first, d.receive(t)) {
		t.Error("a retransmission got another answer")
	}
	if c := kdc.Counts(); c.ASReq != 1 || c.ASRep != 1 || c.Retransmissions != 2 {
		t.Errorf("counts %+v", c)
	}
}

func TestGate(t *testing.T) {
	kdc, key := eager(t)
	gate := kdctest.NewGate()
	kdc.Use(gate.Slow())
	d := dialDatagrams(t, kdc)
	d.send(t, asReq("R", "alice", 1).Marshal())
	must.Receive(t, "a request to the KDC", gate.Arrived())
	if c := kdc.Counts(); c.ASRep != 0 {
		t.Error("answered before the release")
	}
	gate.Release()
	if nonceOf(t, d.receive(t), key) != 1 {
		t.Error("wrong answer")
	}
}

func TestGate_Stop(t *testing.T) {
	kdc, key := eager(t)
	gate := kdctest.NewGate()
	kdc.Use(gate.Slow())
	s := dialStream(t, kdc)
	s.send(t, asReq("R", "alice", 1).Marshal())
	must.Receive(t, "a request to the KDC", gate.Arrived())
	addr := kdc.Addr()
	if err := kdc.Interrupt(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.receive(); err == nil {
		t.Error("a stopped kdc answered")
	}
	kdc.ClearFaults()
	if err := kdc.Start(); err != nil {
		t.Fatal(err)
	}
	if kdc.Addr() != addr {
		t.Errorf("restarted at %s, was at %s", kdc.Addr(), addr)
	}
	s = dialStream(t, kdc)
	s.send(t, asReq("R", "alice", 2).Marshal())
	if m, err := s.receive(); err != nil || nonceOf(t, m, key) != 2 {
		t.Errorf("after the restart: %v", err)
	}
}

func TestStreamFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault kdctest.Fault
		check func(t *testing.T, message []byte, err error)
	}{
		{"reset", kdctest.Reset(), func(t *testing.T, _ []byte, err error) {
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v", err)
			}
		}},
		{"cut", kdctest.Cut(40), func(t *testing.T, m []byte, err error) {
			if len(m) != 40 || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %d bytes and %v", len(m), err)
			}
		}},
		{"announce", kdctest.Announce(0xffffffff), func(t *testing.T, _ []byte, err error) {
			if err == nil || err.Error() != "absurd length" {
				t.Errorf("got %v", err)
			}
		}},
		{"garbage", kdctest.Garbage(100), func(t *testing.T, m []byte, err error) {
			if _, e := messages.ParseKDCRep(m); err != nil || len(m) != 100 || e == nil {
				t.Errorf("got %x, %v", m, err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			kdc, _ := eager(t)
			kdc.Use(kdctest.AS(c.fault))
			s := dialStream(t, kdc)
			s.send(t, asReq("R", "alice", 1).Marshal())
			m, err := s.receive()
			c.check(t, m, err)
		})
	}
}

func TestFieldTooLong(t *testing.T) {
	kdc, _ := eager(t)
	s := dialStream(t, kdc)
	if _, err := s.Write([]byte{0x80, 0, 0, 1}); err != nil {
		t.Fatal(err)
	}
	m, err := s.receive()
	if err != nil {
		t.Fatal(err)
	}
	if e, err := messages.ParseKRBError(m); err != nil || e.ErrorCode != messages.KRB_ERR_FIELD_TOOLONG {
		t.Errorf("got %v, %v", e, err)
	}
	if _, err := s.receive(); !errors.Is(err, io.EOF) {
		t.Errorf("then %v", err)
	}
}

func TestWrongNonce(t *testing.T) {
	kdc, key := eager(t)
	kdc.Use(kdctest.WrongNonce())
	if got := nonceOf(t, kdc.Handle(asReq("R", "alice", 1).Marshal()), key); got == 1 {
		t.Error("the nonce is right")
	}
}

func TestAnotherUser(t *testing.T) {
	kdc, key := eager(t)
	kdc.Use(kdctest.AnotherUser("bob"))
	cred, _, err := open(t, kdc.Handle(asReq("R", "alice", 1).Marshal()), key, enctype.KEY_USAGE_AS_REP)
	if err != nil || cred.Client.String() != "bob@R" {
		t.Errorf("got %v, %v", cred, err)
	}
}

func TestClockJump(t *testing.T) {
	kdc, key := eager(t)
	now := kdc.Now()
	kdc.JumpClock(time.Hour)
	_, part, err := open(t, kdc.Handle(asReq("R", "alice", 1).Marshal()), key, enctype.KEY_USAGE_AS_REP)
	if err != nil || part.AuthTime.Sub(now) < 59*time.Minute {
		t.Errorf("authtime %v, %v", part.AuthTime, err)
	}
	req := asReq("R", "alice", 1)
	prove(t, req, key, now)
	_, _, err = open(t, kdc.Handle(req.Marshal()), key, enctype.KEY_USAGE_AS_REP)
	wantCode(t, err, messages.KRB_AP_ERR_SKEW)
}

func wantCode(t *testing.T, err error, code messages.ErrorCode) *messages.KRBError {
	t.Helper()
	var e *messages.KRBError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want %s", err, code)
	}
	if e.ErrorCode != code {
		t.Fatalf("got %v, want %s", e, code)
	}
	return e
}

func TestForgedAndStaleErrors(t *testing.T) {
	kdc, key := eager(t)
	d := dialDatagrams(t, kdc)
	kdc.Use(kdctest.ForgeFirst(messages.KDC_ERR_C_PRINCIPAL_UNKNOWN))
	d.send(t, asReq("R", "alice", 1).Marshal())
	_, _, err := open(t, d.receive(t), key, enctype.KEY_USAGE_AS_REP)
	if e := wantCode(t, err, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN); e.CName.String() != "alice" {
		t.Errorf("forged for %s", e.CName)
	}
	if nonceOf(t, d.receive(t), key) != 1 {
		t.Error("no real answer")
	}
	kdc.ClearFaults()
	kdc.Use(kdctest.Stale())
	d.send(t, asReq("R", "nobody", 2).Marshal())
	_, _, err = open(t, d.receive(t), key, enctype.KEY_USAGE_AS_REP)
	wantCode(t, err, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN)
	d.send(t, asReq("R", "alice", 3).Marshal())
	_, _, err = open(t, d.receive(t), key, enctype.KEY_USAGE_AS_REP)
	if e := wantCode(t, err, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN); e.CName.String() != "nobody" {
		t.Errorf("stale error for %s", e.CName)
	}
	if nonceOf(t, d.receive(t), key) != 3 {
		t.Error("no real answer")
	}
}

func TestFail(t *testing.T) {
	kdc, key := eager(t)
	kdc.Use(kdctest.TGS(kdctest.Silent()), kdctest.PreAuthenticated(kdctest.Fail(messages.KDC_ERR_SVC_UNAVAILABLE)))
	if nonceOf(t, kdc.Handle(asReq("R", "alice", 1).Marshal()), key) != 1 {
		t.Error("the fault changed the answer to a question without proof")
	}
	req := asReq("R", "alice", 2)
	prove(t, req, key, kdc.Now())
	_, _, err := open(t, kdc.Handle(req.Marshal()), key, enctype.KEY_USAGE_AS_REP)
	wantCode(t, err, messages.KDC_ERR_SVC_UNAVAILABLE)
}

func TestStreamOnlyAndTooBig(t *testing.T) {
	kdc, key := eager(t)
	d, s := dialDatagrams(t, kdc), dialStream(t, kdc)
	kdc.Use(kdctest.Times(1, kdctest.StreamOnly()), kdctest.TooBig())
	d.send(t, asReq("R", "alice", 1).Marshal())
	for kdc.Counts().ASReq != 1 {
		runtime.Gosched() // the datagram is on its way
	}
	d.send(t, asReq("R", "alice", 2).Marshal())
	_, _, err := open(t, d.receive(t), key, enctype.KEY_USAGE_AS_REP)
	wantCode(t, err, messages.KRB_ERR_RESPONSE_TOO_BIG)
	s.send(t, asReq("R", "alice", 2).Marshal())
	if m, err := s.receive(); err != nil || nonceOf(t, m, key) != 2 {
		t.Errorf("stream: %v", err)
	}
}

func TestHint(t *testing.T) {
	realm := kdctest.NewRealm("R")
	realm.AddUser("alice", "secret")
	kdc := start(t, realm)
	kdc.Use(kdctest.Hint(messages.ETypeInfo2Entry{EType: enctype.RC4_HMAC, S2KParams: []byte{0xff, 0xff, 0xff, 0xff}}))
	_, _, err := open(t, kdc.Handle(asReq("R", "alice", 1).Marshal()), enctype.Key{}, 0)
	e := wantCode(t, err, messages.KDC_ERR_PREAUTH_REQUIRED)
	value, _ := e.Data().PAData.Find(messages.PA_ETYPE_INFO2)
	info, err := messages.ParseETypeInfo2(value)
	if err != nil || len(info) != 1 || info[0].EType != enctype.RC4_HMAC {
		t.Errorf("hint %v, %v", info, err)
	}
	login(t, kdc, "R", "alice", "secret")
}
