package exchange

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// hexBytes is a JSON string of hex digits.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

type recordedKey struct {
	EType    enctype.ID `json:"etype"`
	Key      hexBytes   `json:"key"`
	Usage    enctype.Usage
	Password string
}

func (k recordedKey) key(t testing.TB) enctype.Key {
	t.Helper()
	key, err := enctype.NewKey(k.EType, k.Key)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// recorded is one exchange between MIT's client and KDC.
type recorded struct {
	Kind           string
	Request, Reply hexBytes
	Expect         struct {
		ClientKey   *recordedKey `json:"client_key"`
		ReplyKey    *recordedKey `json:"reply_key"`
		FASTRequest *struct {
			InnerNonce uint32 `json:"inner_nonce"`
		} `json:"fast_request"`
		ArmorAPReq *struct {
			TicketSessionKey recordedKey `json:"ticket_session_key"`
			Subkey           recordedKey
		} `json:"armor_ap_req"`
		ArmorKey *recordedKey `json:"armor_key"`
		KRBError *struct {
			ErrorCode messages.ErrorCode `json:"error_code"`
		} `json:"krb_error"`
		PATGSReq *struct {
			TicketSessionKey recordedKey `json:"ticket_session_key"`
		} `json:"pa_tgs_req"`
		Reply *struct {
			EncPart struct {
				Key   recordedKey
				Flags hexBytes
			} `json:"enc_part"`
		}
	}
}

func transcripts(t testing.TB) map[string][]recorded {
	t.Helper()
	b, err := os.ReadFile("../../tests/vectors/mit-transcripts.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Scenarios []struct {
			Name      string
			Exchanges []recorded
		}
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]recorded)
	for _, s := range file.Scenarios {
		all[s.Name] = s.Exchanges
	}
	return all
}

// forced is a source of randomness whose nonces are those of a transcript. Nothing else is read four octets at a time.
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
	if c == nil || !c.Key.Equal(want.Key.key(t)) || uint32(c.Flags) != binary.BigEndian.Uint32(want.Flags) {
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
			return heldKeys{{k.EType, 0}: k.key(t)}
		}
	}
	return passwordKeys{password: "wrong"}
}

// replayAS answers a login with recorded replies and reports how many there were.
func replayAS(t *testing.T, exchanges []recorded) int {
	t.Helper()
	random := &forced{}
	var a *AS
	var err error
	replayed := 0
	for i := range exchanges {
		x := &exchanges[i]
		if x.Kind != "AS" || x.Expect.FASTRequest != nil {
			continue
		}
		body := parseRequest(t, x.Request).Body
		random.nonce = body.Nonce
		if a == nil || a.ended {
			a, err = NewAS(ASConfig{
				Client:  messages.Principal{Name: body.CName, Realm: body.Realm},
				Service: body.SName, Canonicalize: body.KDCOptions&messages.KDC_OPT_CANONICALIZE != 0,
				ETypes: body.EType, Keys: keysFor(t, exchanges[i:]), Options: body.KDCOptions, Now: atEpoch, Rand: random,
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Step(nil); err != nil {
				t.Fatal(err)
			}
		}
		if a.open.nonce != body.Nonce {
			// The next request was made before its nonce was known.
			if _, err := a.ask(a.open.proof); err != nil {
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
			if err != nil || !req.PreAuth {
				t.Fatalf("exchange %d: %v, %v", i, req, err)
			}
		default:
			wantCode(t, err, e.ErrorCode)
		}
		replayed++
	}
	return replayed
}

func TestRecordedLoginsAreUnderstood(t *testing.T) {
	total := 0
	for name, exchanges := range transcripts(t) {
		t.Run(name, func(t *testing.T) { total += replayAS(t, exchanges) })
	}
	if total < 25 {
		t.Errorf("%d exchanges replayed", total)
	}
}

// tgtOf is the ticket that a recorded TGS-REQ presents.
func (r *recorded) tgtOf(t testing.TB) *messages.Credential {
	t.Helper()
	value, _ := parseRequest(t, r.Request).PAData.Find(messages.PA_TGS_REQ)
	apReq, err := messages.ParseAPReq(value)
	if err != nil {
		t.Fatal(err)
	}
	key := r.Expect.PATGSReq.TicketSessionKey.key(t)
	plain, err := key.Decrypt(enctype.KEY_USAGE_TGS_REQ_AUTHENTICATOR, apReq.Authenticator.Cipher)
	if err != nil {
		t.Fatal(err)
	}
	auth, err := messages.ParseAuthenticator(plain)
	if err != nil {
		t.Fatal(err)
	}
	return &messages.Credential{
		Client:  messages.Principal{Name: auth.CName, Realm: auth.CRealm},
		Service: messages.Principal{Name: apReq.Ticket.SName, Realm: apReq.Ticket.Realm},
		Key:     key, Ticket: apReq.Ticket.Raw, EndTime: epoch.Add(time.Hour),
		Flags: messages.TKT_FLG_FORWARDABLE | messages.TKT_FLG_RENEWABLE,
	}
}

// resealed is the recorded TGS-REP with the KDC's plaintext under our subkey, since MIT's client used FAST.
func (r *recorded) resealed(t testing.TB, subkey enctype.Key) []byte {
	t.Helper()
	rep, err := messages.ParseKDCRep(r.Reply)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := r.Expect.ReplyKey.key(t).Decrypt(enctype.KEY_USAGE_TGS_REP_SUBKEY, rep.EncPart.Cipher)
	if err != nil {
		t.Fatal(err)
	}
	rep.EncPart.EType = subkey.EType()
	rep.EncPart.Cipher, err = subkey.Encrypt(testRand, enctype.KEY_USAGE_TGS_REP_SUBKEY, plain)
	if err != nil {
		t.Fatal(err)
	}
	return rep.Marshal()
}

func TestRecordedTicketRepliesAreUnderstood(t *testing.T) {
	total := 0
	for name, exchanges := range transcripts(t) {
		t.Run(name, func(t *testing.T) {
			for i := range exchanges {
				x := &exchanges[i]
				if x.Kind != "TGS" || x.isS4U(t) {
					continue
				}
				body := parseRequest(t, x.Request).Body
				m, err := NewTGS(TGSConfig{
					TGT: x.tgtOf(t), Service: body.SName, ETypes: body.EType, Renew: body.KDCOptions&messages.KDC_OPT_RENEW != 0,
					Now: atEpoch, Rand: &forced{nonce: body.Nonce},
				})
				if err != nil {
					t.Fatal(err)
				}
				req, err := m.Step(nil)
				if err != nil {
					t.Fatal(err)
				}
				if ours := parseRequest(t, req.Message).Body; ours.Realm != body.Realm || !ours.SName.Equal(body.SName) {
					t.Errorf("we ask for %s@%s", ours.SName, ours.Realm)
				}
				if e := x.Expect.KRBError; e != nil {
					if err := m.Check(x.Reply); err != nil {
						t.Fatal(err)
					}
				} else {
					if _, err := m.Step(x.resealed(t, m.open.subkey)); err != nil {
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

// isS4U tells whether a recorded reply is for a client other than the TGT's.
func (r *recorded) isS4U(t testing.TB) bool {
	rep, err := messages.ParseKDCRep(r.Reply)
	return err == nil && !rep.CName.Equal(r.tgtOf(t).Client.Name)
}

func TestRecordedRepliesDoNotFitOtherRequests(t *testing.T) {
	for name, exchanges := range transcripts(t) {
		for i := range exchanges {
			x := &exchanges[i]
			if x.Kind != "AS" || x.Expect.FASTRequest != nil || x.Expect.Reply == nil {
				continue
			}
			body := parseRequest(t, x.Request).Body
			a, err := NewAS(ASConfig{
				Client: messages.Principal{Name: body.CName, Realm: body.Realm}, Service: body.SName,
				ETypes: body.EType, Keys: keysFor(t, exchanges[i:]), Now: atEpoch, Rand: &forced{nonce: body.Nonce},
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Step(nil); err != nil {
				t.Fatal(err)
			}
			// Right nonce, right key: only the checksum over the request shows that it was another.
			if err := a.Check(x.Reply); !errors.Is(err, ErrForeign) {
				t.Errorf("%s, exchange %d: %v", name, i, err)
			}
		}
	}
}
