package kpasswd

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

var now = time.Date(2026, 11, 30, 4, 0, 0, 123456789, time.UTC)

// server is the other side: it reads requests with the ticket's session key and makes replies.
type server struct {
	t   testing.TB
	key enctype.Key
	x   *Exchange
}

func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{t: t, key: newKey(t)}
	client := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "svc"), Realm: "CORP.EXAMPLE"}
	ticket := messages.Ticket{Realm: client.Realm, SName: ServiceName, EncPart: messages.EncryptedData{EType: s.key.EType(), Cipher: []byte("ticket")}}
	s.x = must.OK(New(Config{
		Ticket: &messages.Credential{
			Client: client, Service: messages.Principal{Name: ServiceName, Realm: client.Realm}, Key: s.key, Ticket: ticket.Marshal(),
		},
		Password: "the new one", Now: func() time.Time { return now },
	}))(t)
	return s
}

func newKey(t testing.TB) enctype.Key {
	t.Helper()
	return must.OK(enctype.GenerateKey(enctype.AES256_CTS_HMAC_SHA384_192, rand.Reader))(t)
}

// read opens a request.
func (s *server) read(b []byte) (*messages.Authenticator, *messages.EncKrbPrivPart) {
	s.t.Helper()
	size := int(binary.BigEndian.Uint16(b[4:]))
	if int(binary.BigEndian.Uint16(b)) != len(b) || binary.BigEndian.Uint16(b[2:]) != 1 {
		s.t.Fatalf("a frame of %x", b[:6])
	}
	ap := must.OK(messages.ParseAPReq(b[6 : 6+size]))(s.t)
	auth := must.OK(messages.ParseAuthenticator(must.OK(s.key.Decrypt(enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, ap.Authenticator.Cipher))(s.t)))(s.t)
	priv := must.OK(messages.ParseKRBPriv(b[6+size:]))(s.t)
	part := must.OK(messages.ParseEncKrbPrivPart(must.OK(auth.Subkey.Decrypt(enctype.KEY_USAGE_KRB_PRIV, priv.EncPart.Cipher))(s.t)))(s.t)
	return auth, part
}

// request makes a request and opens it.
func (s *server) request() *messages.Authenticator {
	s.t.Helper()
	auth, _ := s.read(must.OK(s.x.Request(netip.Addr{}))(s.t))
	return auth
}

// reply replies with a result that is encrypted with the key.
func (s *server) reply(auth *messages.Authenticator, key enctype.Key, result []byte, change func(*messages.EncAPRepPart)) []byte {
	s.t.Helper()
	part := messages.EncAPRepPart{CTime: auth.CTime, CUSec: auth.CUSec, SeqNumber: 7, HasSeqNumber: true}
	if change != nil {
		change(&part)
	}
	seal := func(key enctype.Key, usage enctype.Usage, plain []byte) messages.EncryptedData {
		return messages.EncryptedData{EType: key.EType(), Cipher: must.OK(key.Encrypt(rand.Reader, usage, plain))(s.t)}
	}
	rep := messages.APRep{EncPart: seal(s.key, enctype.KEY_USAGE_AP_REP, part.Marshal())}
	inside := messages.EncKrbPrivPart{UserData: result, SeqNumber: 7, HasSeqNumber: true}
	priv := messages.KRBPriv{EncPart: seal(key, enctype.KEY_USAGE_KRB_PRIV, inside.Marshal())}
	return framed(rep.Marshal(), priv.Marshal())
}

func framed(ap, second []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(headerSize+len(ap)+len(second)))
	b = binary.BigEndian.AppendUint16(b, versionChange)
	b = binary.BigEndian.AppendUint16(b, uint16(len(ap)))
	return append(append(b, ap...), second...)
}

var success = []byte("\x00\x00Password changed")

func TestRequest_IsWhatTheRFCSays(t *testing.T) {
	s := newServer(t)
	b := must.OK(s.x.Request(netip.MustParseAddr("::ffff:192.0.2.1")))(t)
	if bytes.Contains(b, []byte("the new one")) {
		t.Fatal("the password can be read")
	}
	auth, part := s.read(b)
	switch {
	case auth.CName.String() != "svc" || auth.CRealm != "CORP.EXAMPLE":
		t.Errorf("authenticator of %s@%s", auth.CName, auth.CRealm)
	case !auth.CTime.Equal(now.Truncate(time.Second)) || auth.CUSec != 123456:
		t.Errorf("authenticator of %s and %d us", auth.CTime, auth.CUSec)
	case auth.Subkey.IsZero() || !auth.HasSeqNumber || auth.SeqNumber > 1<<30:
		t.Errorf("subkey %v, sequence number %d", auth.Subkey, auth.SeqNumber)
	case string(part.UserData) != "the new one" || part.SeqNumber != auth.SeqNumber || !part.HasSeqNumber:
		t.Error("the KRB-PRIV is not that of the authenticator")
	case part.SAddress == nil || part.SAddress.String() != "192.0.2.1":
		t.Errorf("sender's address %v", part.SAddress)
	}
	again, _ := s.read(must.OK(s.x.Request(netip.MustParseAddr("2001:db8::1")))(t))
	if again.CUSec != auth.CUSec+1 || again.Subkey.Equal(auth.Subkey) || s.x.Sent() != 2 {
		t.Errorf("the second authenticator has %d us after %d us, the subkeys are equal: %t", again.CUSec, auth.CUSec, again.Subkey.Equal(auth.Subkey))
	}
}

func TestNew_NeedsTicketAndPassword(t *testing.T) {
	good := newServer(t).x.cfg
	other := *good.Ticket
	other.Service.Name = messages.TGSName("CORP.EXAMPLE")
	for name, change := range map[string]func(*Config){
		"no ticket":      func(c *Config) { c.Ticket = nil },
		"another ticket": func(c *Config) { c.Ticket = &other },
		"no password":    func(c *Config) { c.Password = "" },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The RFC has the reply encrypted with the subkey; MIT uses the session key, and an acceptor may choose
// a subkey of its own.
func TestResult_AnyKeyThatTheServerHas(t *testing.T) {
	s := newServer(t)
	auth := s.request()
	own := newKey(t)
	for name, key := range map[string]enctype.Key{"session key": s.key, "client's subkey": auth.Subkey, "server's subkey": own} {
		reply := s.reply(auth, key, success, func(p *messages.EncAPRepPart) { p.Subkey = own })
		if err := errors.Join(s.x.Check(reply), s.x.Result(reply)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	second := s.request() // a reply to the first request still counts
	for _, auth := range []*messages.Authenticator{auth, second} {
		if err := s.x.Result(s.reply(auth, s.key, success, nil)); err != nil {
			t.Error(err)
		}
	}
}

func TestResult_ForeignReplies(t *testing.T) {
	s := newServer(t)
	auth := s.request()
	good := s.reply(auth, s.key, success, nil)
	another := newServer(t)
	long := append(bytes.Clone(good), 0)
	version := bytes.Clone(good)
	version[3] = 2
	for name, reply := range map[string][]byte{
		"nothing":                  nil,
		"garbage":                  bytes.Repeat([]byte{0x5b}, 300),
		"bytes after it":           long,
		"another version":          version,
		"no KRB-PRIV":              framed(good[6:6+binary.BigEndian.Uint16(good[4:])], nil),
		"another exchange's":       another.reply(another.request(), another.key, success, nil),
		"an authenticator of none": s.reply(&messages.Authenticator{CTime: auth.CTime, CUSec: 1}, s.key, success, nil),
		"another key":              s.reply(auth, newKey(t), success, nil),
		"another sequence number":  s.reply(auth, s.key, success, func(p *messages.EncAPRepPart) { p.SeqNumber = 8 }),
		"no result":                s.reply(auth, s.key, []byte{0}, nil),
		"our own request":          must.OK(s.x.Request(netip.Addr{}))(t),
	} {
		if err := s.x.Check(reply); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: Check returns %v", name, err)
		}
		if err := s.x.Result(reply); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: Result returns %v", name, err)
		}
	}
	for n := range good {
		if err := s.x.Result(good[:n:n]); !errors.Is(err, ErrForeign) {
			t.Errorf("%d of %d bytes: %v", n, len(good), err)
		}
	}
}

func TestResult_KRBError(t *testing.T) {
	s := newServer(t)
	s.request()
	e := messages.KRBError{STime: now.Truncate(time.Second), ErrorCode: messages.KRB_AP_ERR_SKEW, Realm: "CORP.EXAMPLE", SName: ServiceName, EData: []byte("\x00\x03clock")}
	for name, reply := range map[string][]byte{"framed": framed(nil, e.Marshal()), "bare, as Windows sends it": e.Marshal()} {
		var got *messages.KRBError
		err := s.x.Result(reply)
		if !errors.As(err, &got) || got.Code() != messages.KRB_AP_ERR_SKEW || !strings.Contains(err.Error(), `"clock"`) {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok := errors.AsType[*RefusedError](err); ok {
			t.Errorf("%s: what anyone can forge is taken for a refusal", name)
		}
	}
}

func TestResult_Refusals(t *testing.T) {
	// What a domain controller sends: 7 characters, 24 passwords, complexity, 42 days, 1 day.
	windows := must.OK(hex.DecodeString("0004" + "0000" + "00000007" + "00000018" + "00000001" + "00002100f5598000" + "000000c92a69c000"))(t)
	for name, c := range map[string]struct {
		result []byte
		want   []string
	}{
		"MIT":         {[]byte("\x00\x04Password is too short.\nPlease choose another."), []string{"result 4", `"Password is too short. Please choose another."`}},
		"control":     {[]byte("\x00\x04a\x1b[31mb\xff\xfe"), []string{`"a [31mb"`}},
		"no text":     {[]byte("\x00\x05"), []string{"result 5, not permitted"}},
		"unknown":     {[]byte("\x12\x34"), []string{"result 4660"}},
		"a long text": {append([]byte("\x00\x02"), strings.Repeat("x", 60000)...), []string{"xxx..."}},
		"Windows": {windows, []string{
			"at least 7 characters", "characters of several kinds", "none of the last 24 passwords", "no change within 1 days", "after at most 42 days",
		}},
	} {
		s := newServer(t)
		err := s.x.Result(s.reply(s.request(), s.key, c.result, nil))
		if _, ok := errors.AsType[*RefusedError](err); !ok {
			t.Fatalf("%s: %v", name, err)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not have %q", name, err, want)
			}
		}
		if len(err.Error()) > 700 {
			t.Errorf("%s: %d bytes", name, len(err.Error()))
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	f.Add(framed([]byte("ap"), []byte("priv")))
	f.Add(framed(nil, []byte("error")))
	f.Fuzz(func(t *testing.T, b []byte) {
		ap, second, err := parseFrame(b)
		if err == nil && (len(second) == 0 || len(ap)+len(second)+headerSize != len(b)) {
			t.Errorf("%d and %d bytes of %d", len(ap), len(second), len(b))
		}
	})
}

// FuzzResult has what a server says, which only its errors show.
func FuzzResult(f *testing.F) {
	f.Add([]byte("\x00\x04text"))
	f.Add(append([]byte{0, 4}, make([]byte, policySize)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := parseResult(b)
		if ok := len(b) >= 2 && b[0] == 0 && b[1] == 0; ok != (err == nil) {
			t.Fatalf("%x: %v", b, err)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}
