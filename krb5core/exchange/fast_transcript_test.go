package exchange

import (
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// forcedSession is a source of randomness whose nonces and subkeys are those of a transcript: nothing else is read in their
// lengths, since the subkey of AES-256 is longer than a confounder, and with other types the first read of the length is it.
type forcedSession struct {
	forced
	subkey enctype.Key
	used   bool
}

func (f *forcedSession) Read(b []byte) (int, error) {
	if !f.used && len(b) == len(f.subkey.Bytes()) && len(b) != 4 {
		f.used = true
		return copy(b, f.subkey.Bytes()), nil
	}
	return f.forced.Read(b)
}

// replayFASTLogin answers an armored login with the recorded replies of MIT's KDC.
func replayFASTLogin(t *testing.T, exchanges []recorded) int {
	t.Helper()
	random := &forcedSession{}
	var a *AS
	replayed := 0
	for i := range exchanges {
		x := &exchanges[i]
		if x.Kind != "AS" || x.Expect.FASTRequest == nil {
			continue
		}
		outer := parseRequest(t, x.Request).Body
		random.nonce = x.Expect.FASTRequest.InnerNonce
		if a == nil || a.ended {
			tgt := machineTGT(t)
			tgt.Key, tgt.Service.Name, tgt.Service.Realm = x.Expect.ArmorAPReq.TicketSessionKey.key(t), messages.TGSName(outer.Realm), outer.Realm
			random.subkey, random.used = x.Expect.ArmorAPReq.Subkey.key(t), false
			var err error
			a, err = NewAS(ASConfig{
				Client: messages.Principal{Name: outer.CName, Realm: outer.Realm}, Service: outer.SName, ETypes: outer.EType,
				Keys: keysFor(t, exchanges[i:]), Options: outer.KDCOptions, Armor: tgt, Now: atEpoch, Rand: random,
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Step(nil); err != nil {
				t.Fatal(err)
			}
			if want := x.Expect.ArmorKey.key(t); !a.armor.key.Equal(want) {
				t.Fatal("the armor key is another")
			}
		}
		if a.open.nonce != random.nonce {
			if _, err := a.ask(a.open.proof); err != nil { // again, with the nonce of the recording
				t.Fatal(err)
			}
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
		case e.ErrorCode == messages.KDC_ERR_PREAUTH_REQUIRED:
			if err != nil || !req.PreAuth || string(a.cookie) != "MIT" {
				t.Fatalf("exchange %d: %v, %v, cookie %q", i, req, err, a.cookie)
			}
		default:
			wantCode(t, err, e.ErrorCode)
		}
		replayed++
	}
	return replayed
}

func TestRecordedFASTLoginsAreUnderstood(t *testing.T) {
	total := 0
	for name, exchanges := range transcripts(t) {
		t.Run(name, func(t *testing.T) { total += replayFASTLogin(t, exchanges) })
	}
	if total != 4 {
		t.Errorf("%d exchanges replayed, want 4", total)
	}
}

// MIT's client armors every TGS-REQ.
func TestRecordedFASTTicketRepliesAreUnderstood(t *testing.T) {
	total := 0
	for name, exchanges := range transcripts(t) {
		t.Run(name, func(t *testing.T) {
			for i := range exchanges {
				x := &exchanges[i]
				if x.Kind != "TGS" || x.Expect.FASTRequest == nil || x.isS4U(t) {
					continue
				}
				body := parseRequest(t, x.Request).Body
				tgt := x.tgtOf(t)
				random := &forcedSession{subkey: x.subkey(t, tgt)}
				random.nonce = x.Expect.FASTRequest.InnerNonce
				m, err := NewTGS(TGSConfig{
					TGT: tgt, Service: body.SName, ETypes: body.EType, Renew: body.KDCOptions&messages.KDC_OPT_RENEW != 0,
					FAST: true, Now: atEpoch, Rand: random,
				})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := m.Step(nil); err != nil {
					t.Fatal(err)
				}
				if err := m.Check(x.Reply); err != nil {
					t.Fatal(err)
				}
				if x.Expect.KRBError == nil {
					if _, err := m.Step(x.Reply); err != nil {
						t.Fatal(err)
					}
					x.wantRecorded(t, m.Result().Credential)
				}
				total++
			}
		})
	}
	if total < 14 {
		t.Errorf("%d exchanges replayed", total)
	}
}

// subkey is the one of a recorded TGS-REQ's authenticator.
func (r *recorded) subkey(t testing.TB, tgt *messages.Credential) enctype.Key {
	t.Helper()
	value, _ := parseRequest(t, r.Request).PAData.Find(messages.PA_TGS_REQ)
	apReq, err := messages.ParseAPReq(value)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := tgt.Key.Decrypt(enctype.KEY_USAGE_TGS_REQ_AUTHENTICATOR, apReq.Authenticator.Cipher)
	if err != nil {
		t.Fatal(err)
	}
	auth, err := messages.ParseAuthenticator(plain)
	if err != nil {
		t.Fatal(err)
	}
	return auth.Subkey
}
