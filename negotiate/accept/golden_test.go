package accept_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// captured is the token of a MIT client, and what opens it.
type captured struct {
	Mech      string
	CBAppData vectors.Hex `json:"cb_app_data"`
	Tokens    []struct{ Token vectors.Hex }
	Src       string `json:"src_name"`
	Delegated bool
	Expect    struct {
		Checksum struct {
			Bnd   vectors.Hex
			Flags gss.Flags
		} `json:"checksum_8003"`
		APReq struct {
			Ticket struct {
				EType      int32
				ServiceKey vectors.Hex `json:"service_key"`
				EncPart    struct {
					Key     vectors.Key
					EndTime vectors.Time
				} `json:"enc_part"`
			}
			Authenticator struct {
				CTime vectors.Time
				CUSec int32
			}
		} `json:"ap_req"`
	}
}

func captures(tb testing.TB) []captured {
	tb.Helper()
	var v struct{ Cases []captured }
	vectors.Load(tb, "mit-gss.json", &v)
	if len(v.Cases) < 30 {
		tb.Fatalf("%d captures", len(v.Cases))
	}
	return v.Cases
}

// anyService are keys that are those of every service.
type anyService []*accept.Key

func (k anyService) KeysFor(messages.Principal) []*accept.Key { return k }

func (c *captured) config(tb testing.TB) accept.Config {
	tb.Helper()
	ticket := &c.Expect.APReq.Ticket
	key := must.OK(enctype.NewKey(enctype.ID(ticket.EType), ticket.ServiceKey))(tb)
	return accept.Config{
		Keys:    anyService{must.OK(accept.NewKey(key, 1))(tb)},
		ETypes:  append(enctype.Strong(), enctype.RC4_HMAC),
		Replays: accept.NewReplays(accept.ReplayMemory, time.Time{}),
		Now:     func() time.Time { return c.Expect.APReq.Authenticator.CTime.Add(time.Minute) },
	}
}

func (c *captured) request(token []byte) accept.Request {
	return accept.Request{Token: token, Bindings: func(got gss.ChannelBindings) bool { return bytes.Equal(got[:], c.Expect.Checksum.Bnd) }}
}

func TestMIT_Captures(t *testing.T) {
	wrapped, bound, delegated := 0, 0, 0
	for _, c := range captures(t) {
		a := must.OK(accept.New(c.config(t)))(t)
		token := c.Tokens[0].Token
		result := must.OK(a.Accept(c.request(token)))(t)
		ticket := &c.Expect.APReq.Ticket
		if result.Client.String() != c.Src || result.Flags != c.Expect.Checksum.Flags || !result.Evidence.EndTime.Equal(ticket.EncPart.EndTime.Time) ||
			!result.Evidence.Key.Equal(must.OK(enctype.NewKey(enctype.ID(ticket.EncPart.Key.EType), ticket.EncPart.Key.Key))(t)) {
			t.Errorf("%s: %+v", c.Mech, result)
		}
		if result.Bound != (len(c.CBAppData) > 0) {
			t.Errorf("%s: bound: %v", c.Mech, result.Bound)
		}
		answer := result.Token
		if c.Mech == "spnego" {
			wrapped++
			resp := must.OK(spnego.ParseResp(answer))(t)
			if resp.State != spnego.AcceptCompleted {
				t.Errorf("answer %+v", resp)
			}
			answer = resp.ResponseToken
		}
		if mutual := c.Expect.Checksum.Flags&gss.GSS_C_MUTUAL_FLAG != 0; mutual != (answer != nil) {
			t.Errorf("%s: mutual authentication %v, answer %x", c.Mech, mutual, answer)
		} else if mutual {
			rep := must.OK(messages.ParseAPRep(must.OK(gss.ParseToken(answer))(t).Body))(t)
			part := must.OK(messages.ParseEncAPRepPart(must.OK(result.Evidence.Key.Decrypt(enctype.KEY_USAGE_AP_REP, rep.EncPart.Cipher))(t)))(t)
			if !part.CTime.Equal(c.Expect.APReq.Authenticator.CTime.Time) || part.CUSec != c.Expect.APReq.Authenticator.CUSec {
				t.Errorf("AP-REP of %s and %d us", part.CTime, part.CUSec)
			}
		}
		if len(c.CBAppData) > 0 {
			bound++
		}
		if c.Delegated {
			delegated++
		}
		if _, err := a.Accept(c.request(token)); reasonOf(t, err) != accept.Replay {
			t.Errorf("%s: again: %v", c.Mech, err)
		}
	}
	if wrapped < 10 || bound == 0 || delegated == 0 {
		t.Errorf("%d in SPNEGO, %d bound, %d delegated", wrapped, bound, delegated)
	}
}

func TestMIT_Truncated(t *testing.T) {
	for i, c := range captures(t) {
		if i%4 > 1 && i < 28 { // they differ in flags only
			continue
		}
		a := must.OK(accept.New(c.config(t)))(t)
		token := c.Tokens[0].Token
		for n := range token {
			if _, err := a.Accept(c.request(token[:n:n])); err == nil {
				t.Fatalf("%s: %d of %d bytes pass", c.Mech, n, len(token))
			}
		}
		must.OK(a.Accept(c.request(token)))(t)
	}
}

// Windows writes lengths with more bytes than needed.
func TestMIT_LongLengths(t *testing.T) {
	c := captures(t)[1]
	token := vectors.LongLengths(c.Tokens[0].Token)
	if bytes.Equal(token, c.Tokens[0].Token) {
		t.Fatal("nothing is longer")
	}
	must.OK(must.OK(accept.New(c.config(t)))(t).Accept(c.request(token)))(t)
}

// The same token 16 times at once: exactly one is in. Then none, at an acceptor that is new.
func TestAccept_ConcurrentReplays(t *testing.T) {
	w := newWorld(t)
	for range 10 {
		b := w.token().bytes(t)
		a := w.acceptor()
		var in, replays atomic.Int32
		var all sync.WaitGroup
		begin := make(chan struct{})
		for range 16 {
			all.Go(func() {
				<-begin
				switch _, err := a.Accept(accept.Request{Token: b}); reasonOf(t, err) {
				case 0:
					in.Add(1)
				case accept.Replay:
					replays.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		close(begin)
		all.Wait()
		if in.Load() != 1 || replays.Load() != 15 {
			t.Fatalf("%d in, %d replays", in.Load(), replays.Load())
		}
		w.cfg.Keys = keys{service + "@" + realm: {must.OK(accept.NewKey(w.key, 3))(t)}} // as a reload makes them
		if _, err := w.acceptor().Accept(accept.Request{Token: b}); reasonOf(t, err) != accept.Replay {
			t.Errorf("at a new acceptor: %v", err)
		}
	}
}

// Acceptors share the process's cache unless they are told otherwise, and it has a bound.
func TestAccept_ReplayCaches(t *testing.T) {
	w := newWorld(t)
	w.cfg.Replays, w.cfg.Now = nil, nil
	sent := w.token()
	fresh := time.Now().Add(time.Second)
	sent.auth.CTime, sent.ticket.EndTime, sent.ticket.AuthTime, sent.ticket.StartTime = fresh, fresh.Add(time.Hour), fresh.Add(-time.Hour), time.Time{}
	b := sent.bytes(t)
	must.OK(w.acceptor().Accept(accept.Request{Token: b}))(t)
	if _, err := w.acceptor().Accept(accept.Request{Token: b}); reasonOf(t, err) != accept.Replay {
		t.Errorf("at another acceptor: %v", err)
	}
	sent.auth.CTime = time.Now().Add(-4 * time.Minute)
	if _, err := w.acceptor().Accept(accept.Request{Token: sent.bytes(t)}); reasonOf(t, err) != accept.BeforeStart {
		t.Errorf("made before the process: %v", err)
	}
	w = newWorld(t)
	w.cfg.Replays = accept.NewReplays(0, time.Time{})
	if _, err := w.acceptor().Accept(accept.Request{Token: w.token().bytes(t)}); reasonOf(t, err) != accept.ReplaysFull {
		t.Errorf("no memory: %v", err)
	}
}

func TestNew_WithoutKeys(t *testing.T) {
	if _, err := accept.New(accept.Config{}); err == nil {
		t.Error("made")
	}
	if _, err := accept.NewKey(enctype.Key{}, 1); err == nil {
		t.Error("no key is one")
	}
}

// brokenRand has no randomness.
type brokenRand struct{}

func (brokenRand) Read([]byte) (int, error) { return 0, errors.New("no randomness") }

func TestAccept_NoRandomness(t *testing.T) {
	w := newWorld(t)
	w.cfg.Rand = brokenRand{}
	if _, err := w.acceptor().Accept(accept.Request{Token: w.token().bytes(t)}); reasonOf(t, err) != accept.Internal {
		t.Error(err)
	}
}

// What a token announces is no reason to allocate: garbage costs a small multiple of its size.
func TestAccept_GarbageIsCheap(t *testing.T) {
	w := newWorld(t)
	a := w.acceptor()
	good := w.token().bytes(t)
	for name, token := range map[string][]byte{
		"long lengths":    {0x60, 0x84, 0xff, 0xff, 0xff, 0xff},
		"many mechanisms": negTokenInit(nil, nil, make([]spnego.OID, 60_000)...),
		"another's":       append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1),
	} {
		const runs = 20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			if _, err := a.Accept(accept.Request{Token: token}); err == nil {
				t.Fatalf("%s passes", name)
			}
		}
		runtime.ReadMemStats(&after)
		if bytes := (after.TotalAlloc - before.TotalAlloc) / runs; bytes > uint64(16*len(token)+8<<10) {
			t.Errorf("%s: %d bytes for one of %d", name, bytes, len(token))
		}
	}
}

// FuzzAccept gives arbitrary tokens. What is accepted is the captured one, framed in whatever way.
func FuzzAccept(f *testing.F) {
	c := captures(f)[1]
	for _, other := range captures(f) {
		f.Add([]byte(other.Tokens[0].Token))
	}
	accepted, refused := windowsCaptures(f)
	for _, other := range append(accepted, refused...) {
		f.Add(other.token(f))
	}
	f.Add(negTokenInit([]byte("NTLMSSP\x00\x01\x00\x00\x00"), nil, spnego.NTLMSSP, spnego.KRB5))
	f.Add([]byte{0x60, 0x84, 0xff, 0xff, 0xff, 0xff})
	cfg := c.config(f)
	ticket := must.OK(messages.ParseAPReq(must.OK(gss.ParseToken(must.OK(spnego.ParseInit(c.Tokens[0].Token))(f).MechToken))(f).Body))(f).Ticket
	f.Fuzz(func(t *testing.T, token []byte) {
		cfg.Replays = accept.NewReplays(accept.ReplayMemory, time.Time{})
		before := string(token)
		result, err := must.OK(accept.New(cfg))(t).Accept(c.request(token))
		if string(token) != before {
			t.Fatal("the token was changed")
		}
		if err == nil {
			got := must.OK(messages.ParseTicket(result.Evidence.Ticket))
			if result.Client.String() != c.Src || !bytes.Equal(got(t).EncPart.Cipher, ticket.EncPart.Cipher) {
				t.Fatalf("accepted %+v", result)
			}
		} else if reason := reasonOf(t, err); reason == 0 || reason.String() == "" || reason == accept.Internal {
			t.Fatalf("%v", err)
		}
	})
}

// FuzzInside gives arbitrary content under the right keys, as a hostile client with a ticket or a KDC could.
func FuzzInside(f *testing.F) {
	w := newWorld(f)
	sent := w.token()
	value := sent.sum.Append(nil)
	sent.auth.Cksum = &messages.Checksum{Type: gss.CKSUMTYPE_GSS, Value: value}
	f.Add(sent.ticket.Marshal(), sent.auth.Marshal(), []byte(nil))
	sent.auth.AuthorizationData = messages.AuthorizationData{messages.IfRelevant(messages.AuthorizationDataElement{Type: messages.AD_AUTH_DATA_AP_OPTIONS, Value: []byte{0, 0x40, 0, 0}})}
	sent.ticket.CAddr = []messages.HostAddress{{AddrType: messages.ADDRTYPE_IPV4, Address: []byte{192, 0, 2, 1}}}
	sent.ticket.AuthorizationData = messages.AuthorizationData{messages.IfRelevant(messages.AuthorizationDataElement{Type: messages.AD_WIN2K_PAC, Value: make([]byte, 16)})}
	f.Add(sent.ticket.Marshal(), sent.auth.Marshal(), make([]byte, 28))
	session := sent.ticket.Key
	f.Fuzz(func(t *testing.T, ticket, auth, mic []byte) {
		w := &world{t, w.key, w.cfg}
		w.cfg.Replays = accept.NewReplays(accept.ReplayMemory, time.Time{})
		sent := w.token()
		sent.ticket.Key = session
		sent.req = func(r *messages.APReq) {
			r.Ticket.EncPart.Cipher = must.OK(w.key.Encrypt(rand.Reader, enctype.KEY_USAGE_TICKET, ticket))(t)
			r.Authenticator.Cipher = must.OK(session.Encrypt(rand.Reader, enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, auth))(t)
		}
		if mic != nil {
			sent.frame = func(framed []byte) []byte { return negTokenInit(framed, mic, spnego.KRB5) }
		}
		request := accept.Request{Token: sent.bytes(t), Address: netip.MustParseAddr("192.0.2.1"), Bindings: func(gss.ChannelBindings) bool { return true }}
		result, err := must.OK(accept.New(w.cfg))(t).Accept(request)
		if err == nil && (result.Evidence.EndTime.Before(now.Add(-5*time.Minute)) || len(result.Client.Name.NameString) == 0) {
			t.Fatalf("accepted %+v", result)
		}
		if err == nil && mic != nil {
			t.Fatalf("a MIC of %x passes", mic)
		}
	})
}
