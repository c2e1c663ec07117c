package exchange

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func newAS(t testing.TB, change func(*ASConfig)) *AS {
	t.Helper()
	cfg := ASConfig{Client: alice, Keys: passwordKeys{password: password}, Env: testEnv(bothAES, testRand)}
	if change != nil {
		change(&cfg)
	}
	return must.OK(NewAS(cfg))(t)
}

func anyRealm(string) bool { return true }

func TestAS_Login(t *testing.T) {
	key := mustKey(t, aes256, password, salt)
	var events trail
	a := newAS(t, func(c *ASConfig) {
		c.Trace, c.Options = events.add, messages.KDC_OPT_FORWARDABLE
	})
	requests := must.OK(run(t, a, func(n int, r *Request) []byte {
		if n == 0 {
			return preAuthRequired(t, r.Message, entry(aes256, salt))
		}
		stamp := timestamp(t, r.Message, key)
		if got := stamp.PATimestamp.Add(time.Duration(stamp.PAUSec) * time.Microsecond); !got.Equal(epoch) {
			t.Errorf("timestamp is %s, not %s", got, epoch)
		}
		return newASIssue(t, r.Message, key).seal(t)
	}))(t)
	if len(requests) != 2 || requests[0].PreAuth || !requests[1].PreAuth {
		t.Fatalf("requests: %+v", requests)
	}
	first, second := parseRequest(t, requests[0].Message), parseRequest(t, requests[1].Message)
	if _, ok := first.PAData.Find(messages.PA_REQ_ENC_PA_REP); !ok {
		t.Error("the first request does not ask for PA-REQ-ENC-PA-REP")
	}
	if cookie, _ := second.PAData.Find(messages.PA_FX_COOKIE); string(cookie) != "MIT" {
		t.Errorf("the cookie sent back is %q", cookie)
	}
	if first.Body.Nonce == second.Body.Nonce {
		t.Error("both requests have one nonce")
	}
	if want := messages.KDC_OPT_FORWARDABLE; second.Body.KDCOptions != want {
		t.Errorf("options are %s, not %s", second.Body.KDCOptions, want)
	}
	r := a.Result()
	if r.Credential == nil || !r.Credential.Client.Equal(alice) || a.cfg.Budget.Sent() != 1 || r.Offset != 0 || !r.OffsetConfirmed {
		t.Errorf("result: %+v", r)
	}
	if r.Hint == nil || r.Hint.EType != aes256 || r.Hint.Salt != salt || !r.Hint.HasSalt {
		t.Errorf("hint: %+v", r.Hint)
	}
	events.wants(t, "pre-authenticating with aes256-cts-hmac-sha1-96", "confirmed our request", "ticket for krbtgt/KRB5.TEST@KRB5.TEST as alice@KRB5.TEST")
}

func TestAS_Hint(t *testing.T) {
	key := mustKey(t, aes256, password, "another salt")
	a := newAS(t, func(c *ASConfig) { c.Hint = &PreAuthHint{EType: aes256, Salt: "another salt", HasSalt: true} })
	requests, err := run(t, a, loggingIn(t, key))
	if err != nil || len(requests) != 1 || !requests[0].PreAuth {
		t.Fatalf("requests %d, error %v", len(requests), err)
	}
	if h := a.Result().Hint; h == nil || h.Salt != "another salt" {
		t.Errorf("hint: %+v", h)
	}
}

func TestAS_HintNotAllowed(t *testing.T) {
	for name, hint := range map[string]PreAuthHint{
		"type not allowed": {EType: enctype.RC4_HMAC},
		"one iteration":    {EType: aes256, Salt: salt, HasSalt: true, Params: []byte{0, 0, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := newAS(t, func(c *ASConfig) { c.Hint = &hint }).Step(nil)
			if err != nil || req.PreAuth {
				t.Fatalf("request %+v, error %v", req, err)
			}
		})
	}
}

func TestAS_HintRefused(t *testing.T) {
	key := mustKey(t, aes256, password, salt)
	var events trail
	a := newAS(t, func(c *ASConfig) {
		c.Hint, c.Trace = &PreAuthHint{EType: aes256, Salt: "old", HasSalt: true}, events.add
	})
	requests := must.OK(run(t, a, inTurn(refusing(t, messages.KDC_ERR_PREAUTH_FAILED), demanding(t), loggingIn(t, key))))(t)
	if pre := []bool{requests[0].PreAuth, requests[1].PreAuth, requests[2].PreAuth}; !slices.Equal(pre, []bool{true, false, true}) {
		t.Errorf("pre-authenticated: %v", pre)
	}
	if n := a.cfg.Budget.Sent(); n != 2 {
		t.Errorf("%d pre-authenticated requests counted", n)
	}
	events.wants(t, "may have changed", "another type or salt than before", `salt "old": KDC_ERR_PREAUTH_FAILED (1 pre-auth`)
}

func TestAS_RefusedKeyNotRepeated(t *testing.T) {
	for name, c := range map[string]struct {
		hint    *PreAuthHint
		keys    KeySource
		salt    string // named by the KDC
		proofs  int
		queries int
	}{
		"hint, same salt": {&PreAuthHint{EType: aes256, Salt: salt, HasSalt: true}, passwordKeys{password: "wrong"}, salt, 1, 2},
		"hint, keytab whose key does not depend on the salt": {
			&PreAuthHint{EType: aes256, Salt: "old", HasSalt: true}, heldKeys{{aes256, 0}: newKey(t, aes256)}, salt, 1, 2,
		},
		"no hint":             {nil, passwordKeys{password: "wrong"}, salt, 1, 2},
		"hint, salt of today": {&PreAuthHint{EType: aes256, Salt: "old", HasSalt: true}, passwordKeys{password: "wrong"}, salt, 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAS(t, func(cfg *ASConfig) { cfg.Hint, cfg.Keys = c.hint, c.keys })
			proofs := 0
			requests, err := run(t, a, func(_ int, r *Request) []byte {
				if r.PreAuth {
					proofs++
					return errorFor(t, r.Message, messages.KDC_ERR_PREAUTH_FAILED).Marshal()
				}
				return preAuthRequired(t, r.Message, entry(aes256, c.salt))
			})
			wantCode(t, err, messages.KDC_ERR_PREAUTH_FAILED)
			if proofs != c.proofs || a.cfg.Budget.Sent() != c.proofs || len(requests) != c.queries {
				t.Errorf("%d proofs, %d counted, %d requests", proofs, a.cfg.Budget.Sent(), len(requests))
			}
			if h := a.Result().Hint; h == nil || h.Salt != c.salt {
				t.Errorf("the salt that the KDC named is not told: %+v", h)
			}
		})
	}
}

func TestAS_ForgedErrorsBounded(t *testing.T) {
	codes := []messages.ErrorCode{messages.KRB_AP_ERR_SKEW, messages.KDC_ERR_PREAUTH_FAILED, messages.KDC_ERR_PREAUTH_REQUIRED, messages.KDC_ERR_ETYPE_NOSUPP}
	for seed := range 256 {
		a := newAS(t, func(c *ASConfig) { c.Hint = &PreAuthHint{EType: aes256, Salt: "hint", HasSalt: true} })
		proofs := 0
		_, err := run(t, a, func(n int, r *Request) []byte {
			if r.PreAuth {
				proofs++
			}
			code := codes[seed>>(2*min(n, 3))&3]
			if code == messages.KDC_ERR_PREAUTH_REQUIRED {
				return preAuthRequired(t, r.Message, entry(aes256, strings.Repeat("x", n)))
			}
			return errorFor(t, r.Message, code).Marshal()
		})
		if err == nil || proofs > MaxProofs {
			t.Fatalf("sequence %#x: %d proofs, error %v", seed, proofs, err)
		}
	}
}

func TestAS_Skew(t *testing.T) {
	key := mustKey(t, aes256, password, salt)
	const off = 10 * time.Minute
	var events trail
	a := newAS(t, func(c *ASConfig) { c.Trace = events.add })
	must.OK(run(t, a, func(n int, r *Request) []byte {
		switch n {
		case 0:
			return preAuthRequired(t, r.Message, entry(aes256, salt))
		case 1:
			e := errorFor(t, r.Message, messages.KRB_AP_ERR_SKEW)
			e.STime = e.STime.Add(off)
			return e.Marshal()
		}
		if got := timestamp(t, r.Message, key).PATimestamp; !got.Equal(epoch.Add(off).Truncate(time.Second)) {
			t.Errorf("corrected timestamp is %s", got)
		}
		if r := a.Result(); r.OffsetConfirmed || r.Offset.Round(time.Second) != off {
			t.Errorf("before the reply: %s, confirmed %v", r.Offset, r.OffsetConfirmed)
		}
		i := newASIssue(t, r.Message, key)
		i.part.AuthTime, i.part.EndTime = i.part.AuthTime.Add(off), i.part.EndTime.Add(off)
		return i.seal(t)
	}))(t)
	if r := a.Result(); !r.OffsetConfirmed || r.Offset.Round(time.Second) != off || a.cfg.Budget.Sent() != 2 {
		t.Errorf("result: %+v", r)
	}
	events.wants(t, "not yet confirmed", "9.999998s, confirmed", "with the KDC's time")
}

func TestAS_SecondSkewFinal(t *testing.T) {
	requests, err := run(t, newAS(t, nil), inTurn(demanding(t), refusing(t, messages.KRB_AP_ERR_SKEW)))
	wantCode(t, err, messages.KRB_AP_ERR_SKEW)
	wantRequests(t, requests, 3)
}

func TestAS_ForgedSkew(t *testing.T) {
	key := mustKey(t, aes256, password, salt)
	a := newAS(t, nil)
	must.OK(run(t, a, func(n int, r *Request) []byte {
		if n == 0 {
			e := errorFor(t, r.Message, messages.KRB_AP_ERR_SKEW)
			e.STime = e.STime.Add(4 * time.Minute) // little enough for a KDC to accept
			return e.Marshal()
		}
		return newASIssue(t, r.Message, key).seal(t)
	}))(t)
	if r := a.Result(); r.Offset.Abs() > time.Second || !r.OffsetConfirmed {
		t.Errorf("offset %s, confirmed %v", r.Offset, r.OffsetConfirmed)
	}
}

func TestAS_OffsetFromAuthTime(t *testing.T) {
	key := mustKey(t, aes256, password, salt)
	a := newAS(t, nil)
	must.OK(run(t, a, loggingIn(t, key, func(i *issue) {
		i.part.AuthTime, i.part.EndTime = i.part.AuthTime.Add(-time.Hour), i.part.EndTime.Add(-time.Hour)
	})))(t)
	if r := a.Result(); (r.Offset+time.Hour).Abs() > time.Second || !r.OffsetConfirmed {
		t.Errorf("offset %s, confirmed %v", r.Offset, r.OffsetConfirmed)
	}
}

func TestAS_NoPreAuth(t *testing.T) {
	for name, padata := range map[string]messages.MethodData{
		"ETYPE-INFO2": {{Type: messages.PA_ETYPE_INFO2, Value: messages.ETypeInfo2{entry(aes256, "its salt")}.Marshal()}},
		"ETYPE-INFO":  {{Type: messages.PA_ETYPE_INFO, Value: messages.ETypeInfo{{EType: aes256, Salt: []byte("its salt")}}.Marshal()}},
		"PW-SALT":     {{Type: messages.PA_PW_SALT, Value: []byte("its salt")}},
	} {
		t.Run(name, func(t *testing.T) {
			key := mustKey(t, aes256, password, "its salt")
			a := newAS(t, nil)
			requests, err := run(t, a, loggingIn(t, key, func(i *issue) { i.rep.PAData = padata }))
			if err != nil || len(requests) != 1 || a.cfg.Budget.Sent() != 0 {
				t.Fatalf("%d requests, error %v", len(requests), err)
			}
			if h := a.Result().Hint; h == nil || h.Salt != "its salt" {
				t.Errorf("hint: %+v", h)
			}
		})
	}
}

func TestAS_SaltOfReply(t *testing.T) {
	oldKey, newKey := mustKey(t, aes256, password, salt), mustKey(t, aes256, password, "new salt")
	a := newAS(t, nil)
	must.OK(run(t, a, func(n int, r *Request) []byte {
		if n == 0 {
			return preAuthRequired(t, r.Message, entry(aes256, salt))
		}
		timestamp(t, r.Message, oldKey)
		i := newASIssue(t, r.Message, newKey)
		i.rep.PAData = messages.MethodData{{Type: messages.PA_ETYPE_INFO2, Value: messages.ETypeInfo2{entry(aes256, "new salt")}.Marshal()}}
		return i.seal(t)
	}))(t)
	if h := a.Result().Hint; h.Salt != "new salt" {
		t.Errorf("hint: %+v", h)
	}
}

func TestAS_KeyVersionOfReply(t *testing.T) {
	newest, old := newKey(t, aes256), newKey(t, aes256)
	keys := heldKeys{{aes256, 0}: newest, {aes256, 4}: newest, {aes256, 3}: old}
	for name, c := range map[string]struct {
		kvno uint32
		key  enctype.Key
	}{"an older version": {3, old}, "a version that the keytab calls otherwise": {77, newest}} {
		t.Run(name, func(t *testing.T) {
			a := newAS(t, func(cfg *ASConfig) { cfg.Keys = keys })
			must.OK(run(t, a, loggingIn(t, c.key, func(i *issue) { i.rep.EncPart.KVNO, i.rep.EncPart.HasKVNO = c.kvno, true })))(t)
		})
	}
}

func TestAS_WrongKeyNamesSalt(t *testing.T) {
	a := newAS(t, func(c *ASConfig) { c.Keys = passwordKeys{password: "wrong"} })
	_, err := run(t, a, loggingIn(t, mustKey(t, aes256, password, "CORP.EXAMPLEAlice"), func(i *issue) {
		i.rep.PAData = messages.MethodData{{Type: messages.PA_ETYPE_INFO2, Value: messages.ETypeInfo2{entry(aes256, "CORP.EXAMPLEAlice")}.Marshal()}}
		i.rep.EncPart.KVNO, i.rep.EncPart.HasKVNO = 5, true
	}))
	wantField(t, err, "enc-part")
	var wrong *WrongKeyError
	if !errors.As(err, &wrong) || wrong.Salt != "CORP.EXAMPLEAlice" || !wrong.HasSalt || wrong.KVNO != 5 || wrong.EType != aes256 {
		t.Fatalf("error: %v", err)
	}
	if !strings.Contains(err.Error(), `"CORP.EXAMPLEAlice", named by the KDC`) {
		t.Errorf("text: %v", err)
	}
}

func TestAS_ForeignReply(t *testing.T) {
	key := mustKey(t, aes256, password, salt)
	a := newAS(t, nil)
	req := must.OK(a.Step(nil))(t)
	spoilt := newASIssue(t, req.Message, key)
	spoilt.part.Nonce++
	for _, reply := range [][]byte{nil, {0x7e}, []byte("garbage"), spoilt.seal(t)} {
		if _, err := a.Step(reply); !errors.Is(err, ErrForeign) {
			t.Fatalf("foreign reply: %v", err)
		}
	}
	if req, err := a.Step(newASIssue(t, req.Message, key).seal(t)); req != nil || err != nil {
		t.Fatalf("then the right one: %v, %v", req, err)
	}
}

func TestAS_FinalErrors(t *testing.T) {
	for _, code := range []messages.ErrorCode{
		messages.KDC_ERR_NAME_EXP, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, messages.KDC_ERR_POLICY, messages.KDC_ERR_ETYPE_NOSUPP,
		messages.KDC_ERR_CLIENT_REVOKED, messages.KDC_ERR_KEY_EXPIRED, messages.KDC_ERR_PREAUTH_FAILED, messages.KDC_ERR_WRONG_REALM,
	} {
		a := newAS(t, nil)
		requests, err := run(t, a, refusing(t, code))
		wantCode(t, err, code)
		if _, err := a.Step([]byte("more")); len(requests) != 1 || !errors.Is(err, ErrFinished) {
			t.Errorf("%s: %d requests, then %v", code, len(requests), err)
		}
	}
}

func TestAS_ClientReferral(t *testing.T) {
	upn := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, "alice@krb5.example"), Realm: "A.TEST"}
	key := mustKey(t, aes256, password, salt)
	var events trail
	a := newAS(t, func(c *ASConfig) { c.Client, c.Trace, c.Configured = upn, events.add, anyRealm })
	requests := must.OK(run(t, a, inTurn(referring(t, realm), demanding(t), loggingIn(t, key, func(i *issue) {
		i.client(alice) // the name that the KDC knows
	}))))(t)
	if requests[0].Realm != "A.TEST" || requests[1].Realm != realm || requests[2].Realm != realm {
		t.Errorf("asked: %s, %s, %s", requests[0].Realm, requests[1].Realm, requests[2].Realm)
	}
	body := parseRequest(t, requests[1].Message).Body
	if body.Realm != realm || body.SName.String() != "krbtgt/"+realm || body.KDCOptions&messages.KDC_OPT_CANONICALIZE == 0 {
		t.Errorf("body: %+v", body)
	}
	if c := a.Result().Credential.Client; !c.Equal(alice) {
		t.Errorf("client is %s", c)
	}
	events.wants(t, "realm A.TEST refers the client to realm KRB5.TEST")
}

func TestAS_PlainNameNotReferred(t *testing.T) {
	requests, err := run(t, newAS(t, nil), referring(t, other))
	wantCode(t, err, messages.KDC_ERR_WRONG_REALM)
	wantRequests(t, requests, 1)
}

func TestAS_ReferralKeepsKey(t *testing.T) {
	key := newKey(t, aes256)
	a := newAS(t, func(c *ASConfig) {
		c.Canonicalize, c.Keys, c.Hint = true, heldKeys{{aes256, 0}: key}, &PreAuthHint{EType: aes256}
	})
	requests, err := run(t, a, inTurn(referring(t, other), demanding(t), loggingIn(t, key)))
	if err != nil || len(requests) != 3 || requests[2].Realm != other {
		t.Errorf("%d requests, error %v", len(requests), err)
	}
}

func TestAS_ClientReferralLoop(t *testing.T) {
	upn := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, "alice@krb5.example"), Realm: "R0.TEST"}
	for name, c := range map[string]struct {
		next     func(n int) string
		requests int
		reason   string
	}{
		"to itself":      {func(int) string { return "R0.TEST" }, 1, "loop"},
		"there and back": {func(n int) string { return []string{"R1.TEST", "r0.test"}[n%2] }, 2, "loop"},
		"nowhere":        {func(int) string { return "" }, 1, "no realm"},
		"eleven hops":    {func(n int) string { return "R" + strings.Repeat("1", n+1) + ".TEST" }, 11, "too many hops"},
	} {
		t.Run(name, func(t *testing.T) {
			requests, err := run(t, newAS(t, func(cfg *ASConfig) { cfg.Client, cfg.Configured = upn, anyRealm }), func(n int, r *Request) []byte { return wrongRealm(t, r, c.next(n)) })
			wantCode(t, err, messages.KDC_ERR_WRONG_REALM)
			var r *ReferralError
			if !errors.As(err, &r) || !strings.Contains(r.Reason, c.reason) || len(requests) != c.requests {
				t.Errorf("%d requests, error %v", len(requests), err)
			}
		})
	}
}

func TestAS_HeldKeysFirst(t *testing.T) {
	a := newAS(t, func(c *ASConfig) { c.Keys = heldKeys{{aes128, 0}: newKey(t, aes128)} })
	req := must.OK(a.Step(nil))(t)
	if got := parseRequest(t, req.Message).Body.EType; !slices.Equal(got, []enctype.ID{aes128, aes256}) {
		t.Errorf("offered: %v", got)
	}
	if _, err := NewAS(ASConfig{Client: alice, Keys: heldKeys{{enctype.RC4_HMAC, 0}: newKey(t, enctype.RC4_HMAC)}}); !errors.Is(err, ErrNoKey) {
		t.Errorf("a keytab without an allowed type: %v", err)
	}
}
