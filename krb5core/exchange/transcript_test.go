package exchange

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

func keyOf(t testing.TB, k vectors.Key) enctype.Key {
	t.Helper()
	return must.OK(enctype.NewKey(enctype.ID(k.EType), k.Key))(t)
}

// recorded is one exchange between MIT's client and KDC.
type recorded vectors.Exchange

func transcripts(t testing.TB) map[string][]recorded {
	t.Helper()
	all := make(map[string][]recorded)
	for _, s := range vectors.Transcripts(t) {
		for _, x := range s.Exchanges {
			all[s.Name] = append(all[s.Name], recorded(x))
		}
	}
	return all
}

// forced is a source of randomness whose nonces are those of a transcript. Nothing else is read four bytes at a time.
type forced struct {
	nonce uint32
	counter
}

func (f *forced) Read(b []byte) (int, error) {
	if len(b) == 4 {
		binary.BigEndian.PutUint32(b, f.nonce)
		return 4, nil
	}
	return f.counter.Read(b)
}

// wantRecorded holds a credential against the recorded, decrypted reply.
func (r *recorded) wantRecorded(t *testing.T, c *messages.Credential) {
	t.Helper()
	want := r.Expect.Reply.EncPart
	if c == nil || !c.Key.Equal(keyOf(t, want.Key)) || fmt.Sprintf("%08x", uint32(c.Flags)) != want.Flags {
		t.Fatalf("credential: %v with flags %v", c, want.Flags)
	}
}

// keysFor are the client's keys in a scenario.
func keysFor(t testing.TB, exchanges []recorded) KeySource {
	for _, x := range exchanges {
		switch k := x.Expect.ClientKey; {
		case k == nil:
		case k.Password != "":
			return passwordKeys{password: k.Password}
		default:
			return heldKeys{{enctype.ID(k.EType), 0}: keyOf(t, *k)}
		}
	}
	return passwordKeys{password: "wrong"}
}

// forcedSession is a source of randomness whose nonces and subkeys are those of a transcript: nothing else is read in their
// lengths, since the subkey of AES-256 is longer than a confounder, and with other types the first read of the length is it.
type forcedSession struct {
	forced
	subkey enctype.Key
	used   bool
}

func (f *forcedSession) Read(b []byte) (int, error) {
	if !f.used && !f.subkey.IsZero() && len(b) == len(f.subkey.Bytes()) && len(b) != 4 {
		f.used = true
		return copy(b, f.subkey.Bytes()), nil
	}
	return f.forced.Read(b)
}

// newRecordedAS starts the machine that makes a recorded AS-REQ.
func (r *recorded) newRecordedAS(t *testing.T, keys KeySource, random *forcedSession) *AS {
	t.Helper()
	body := parseRequest(t, r.Request).Body
	cfg := ASConfig{
		Env:    testEnv(body.EType, random),
		Client: messages.Principal{Name: body.CName, Realm: body.Realm}, Keys: keys, Options: body.KDCOptions,
	}
	if r.Expect.FASTRequest != nil {
		cfg.Armor = machineTGT(t)
		cfg.Armor.Key = keyOf(t, r.Expect.ArmorAPReq.TicketSessionKey)
		cfg.Armor.Service = messages.Principal{Name: messages.TGSName(body.Realm), Realm: body.Realm}
		random.subkey, random.used = keyOf(t, r.Expect.ArmorAPReq.Subkey), false
	}
	a := must.OK(NewAS(cfg))(t)
	must.OK(a.Step(nil))(t)
	if r.Expect.FASTRequest != nil && !a.armor.key.Equal(keyOf(t, *r.Expect.ArmorKey)) {
		t.Fatal("the armor key is another")
	}
	return a
}

// replayAS answers a login, with FAST or without, with recorded replies and returns how many there were.
func replayAS(t *testing.T, exchanges []recorded, fast bool) int {
	t.Helper()
	random := &forcedSession{}
	var a *AS
	replayed := 0
	for i := range exchanges {
		x := &exchanges[i]
		if x.Kind != "AS" || (x.Expect.FASTRequest != nil) != fast {
			continue
		}
		if _, tgs := parseRequest(t, x.Request).Body.SName.IsTGS(); !tgs {
			continue // for kadmin/changepw
		}
		random.nonce = parseRequest(t, x.Request).Body.Nonce
		if fast {
			random.nonce = x.Expect.FASTRequest.InnerNonce
		}
		if a == nil || a.ended {
			a = x.newRecordedAS(t, keysFor(t, exchanges[i:]), random)
		}
		if a.open.nonce != random.nonce {
			// The next request was made before its nonce was known.
			must.OK(a.ask(a.open.proof))(t)
		}
		a.open.message = x.Request // which the KDC's checksum covers
		if err := a.Check(x.Reply); err != nil {
			t.Fatalf("exchange %d: %v", i, err)
		}
		req, err := a.Step(x.Reply)
		switch e := x.Expect.KRBError; {
		case e == nil && (err != nil || req != nil):
			t.Fatalf("exchange %d: %v, %v", i, req, err)
		case e == nil:
			x.wantRecorded(t, a.Result().Credential)
		case messages.ErrorCode(e.ErrorCode) == messages.KDC_ERR_PREAUTH_REQUIRED:
			if err != nil || !req.PreAuth || fast && string(a.cookie) != "MIT" {
				t.Fatalf("exchange %d: %v, %v, cookie %q", i, req, err, a.cookie)
			}
		default:
			wantCode(t, err, messages.ErrorCode(e.ErrorCode))
		}
		replayed++
	}
	return replayed
}

func TestTranscript_Logins(t *testing.T) {
	for fast, want := range map[bool]int{false: 24, true: 4} {
		total := 0
		for name, exchanges := range transcripts(t) {
			t.Run(name, func(t *testing.T) { total += replayAS(t, exchanges, fast) })
		}
		if total < want {
			t.Errorf("FAST %t: %d exchanges replayed, want %d", fast, total, want)
		}
	}
}

// presented returns the ticket that a recorded TGS-REQ presents, and the authenticator's subkey.
func (r *recorded) presented(t testing.TB) (*messages.Credential, enctype.Key) {
	t.Helper()
	value, _ := parseRequest(t, r.Request).PAData.Find(messages.PA_TGS_REQ)
	apReq := must.OK(messages.ParseAPReq(value))(t)
	key := keyOf(t, r.Expect.PATGSReq.TicketSessionKey)
	plain := must.OK(key.Decrypt(enctype.KEY_USAGE_TGS_REQ_AUTHENTICATOR, apReq.Authenticator.Cipher))(t)
	auth := must.OK(messages.ParseAuthenticator(plain))(t)
	return &messages.Credential{
		Client:  messages.Principal{Name: auth.CName, Realm: auth.CRealm},
		Service: messages.Principal{Name: apReq.Ticket.SName, Realm: apReq.Ticket.Realm},
		Key:     key, Ticket: apReq.Ticket.Raw, EndTime: epoch.Add(time.Hour),
		Flags: messages.TKT_FLG_FORWARDABLE | messages.TKT_FLG_RENEWABLE,
	}, auth.Subkey
}

// resealed is the recorded TGS-REP with the KDC's plaintext under our subkey, since MIT's client used FAST.
func (r *recorded) resealed(t testing.TB, subkey enctype.Key) []byte {
	t.Helper()
	rep := must.OK(messages.ParseKDCRep(r.Reply))(t)
	plain := must.OK(keyOf(t, *r.Expect.ReplyKey).Decrypt(enctype.KEY_USAGE_TGS_REP_SUBKEY, rep.EncPart.Cipher))(t)
	rep.PAData, rep.EncPart.EType = nil, subkey.EType()
	rep.EncPart.Cipher = must.OK(subkey.Encrypt(testRand, enctype.KEY_USAGE_TGS_REP_SUBKEY, plain))(t)
	return rep.Marshal()
}

// replayTGS answers TGS-REQs with the recorded replies. MIT's client armors each of them: with FAST the reply fits as it is,
// without it is the KDC's plaintext under the subkey of the request.
func replayTGS(t *testing.T, exchanges []recorded, fast bool) (replayed int) {
	t.Helper()
	for i := range exchanges {
		x := &exchanges[i]
		if x.Kind != "TGS" || fast && x.Expect.FASTRequest == nil || x.isS4U(t) {
			continue
		}
		body := parseRequest(t, x.Request).Body
		tgt, subkey := x.presented(t)
		random := &forcedSession{forced: forced{nonce: body.Nonce}}
		if fast {
			random.subkey, random.nonce = subkey, x.Expect.FASTRequest.InnerNonce
		}
		m := must.OK(NewTGS(TGSConfig{
			Session: Session{Env: testEnv(body.EType, random), TGT: tgt, FAST: fast},
			Service: body.SName, Renew: body.KDCOptions&messages.KDC_OPT_RENEW != 0,
		}))(t)
		req := must.OK(m.Step(nil))(t)
		if ours := parseRequest(t, req.Message).Body; ours.Realm != body.Realm || !ours.SName.Equal(body.SName) {
			t.Errorf("the request is for %s@%s", ours.SName, ours.Realm)
		}
		reply := x.Reply
		if x.Expect.KRBError == nil {
			if plain := x.resealed(t, m.open.subkey); !fast {
				reply = plain
			} else {
				must.Do(t, m.Check(plain)) // what a KDC says that overlooks the armor
			}
		}
		must.Do(t, m.Check(reply))
		if x.Expect.KRBError == nil {
			must.OK(m.Step(reply))(t)
			x.wantRecorded(t, m.Result().Credential)
		}
		replayed++
	}
	return replayed
}

func TestTranscript_Tickets(t *testing.T) {
	for _, fast := range []bool{false, true} {
		total := 0
		for name, exchanges := range transcripts(t) {
			t.Run(name, func(t *testing.T) { total += replayTGS(t, exchanges, fast) })
		}
		if total < 14 {
			t.Errorf("FAST %t: %d exchanges replayed", fast, total)
		}
	}
}

// isS4U reports whether a recorded reply is for a client other than the TGT's.
func (r *recorded) isS4U(t testing.TB) bool {
	rep, err := messages.ParseKDCRep(r.Reply)
	tgt, _ := r.presented(t)
	return err == nil && !rep.CName.Equal(tgt.Client.Name)
}

func TestTranscript_OtherRequests(t *testing.T) {
	for name, exchanges := range transcripts(t) {
		for i := range exchanges {
			x := &exchanges[i]
			if x.Kind != "AS" || x.Expect.FASTRequest != nil || x.Expect.Reply == nil {
				continue
			}
			body := parseRequest(t, x.Request).Body
			a := x.newRecordedAS(t, keysFor(t, exchanges[i:]), &forcedSession{forced: forced{nonce: body.Nonce}})
			// Right nonce, right key: only the checksum over the request shows that it was another.
			if err := a.Check(x.Reply); !errors.Is(err, ErrForeign) {
				t.Errorf("%s, exchange %d: %v", name, i, err)
			}
		}
	}
}
