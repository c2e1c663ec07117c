package exchange

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange/spake"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// spakeKDC is a KDC that takes SPAKE alone.
type spakeKDC struct {
	t          testing.TB
	key        enctype.Key
	group      messages.SPAKEGroup
	optimistic bool
	factor     int32
	armor      *messages.Credential // demands FAST by this ticket; nil for none
	ownKey     bool                 // replies with the client's key in place of K'[0]

	party              *spake.Party
	support, challenge []byte
	responses          int
}

func newSPAKEKDC(t testing.TB, group messages.SPAKEGroup) *spakeKDC {
	return &spakeKDC{t: t, key: mustKey(t, aes256, password, salt), group: group, factor: messages.SPAKE_SF_NONE}
}

func (k *spakeKDC) newChallenge() []byte {
	k.t.Helper()
	k.party = must.OK(spake.New(spake.KDC, k.group, k.key, testRand))(k.t)
	k.challenge = spakeChallenge(k.group, k.party.Public(), k.factor)
	return k.challenge
}

func spakeChallenge(group messages.SPAKEGroup, element []byte, factor int32) []byte {
	m := messages.PASPAKE{Challenge: &messages.SPAKEChallenge{
		Group: group, Pubkey: element, Factors: []messages.SPAKESecondFactor{{Type: factor}},
	}}
	return m.Marshal()
}

func (k *spakeKDC) answer(_ int, q *Request) []byte {
	k.t.Helper()
	request := q.Message
	fail, reply := func(e *messages.KRBError) []byte { return e.Marshal() }, func(i *issue) []byte { return i.seal(k.t) }
	if k.armor != nil {
		r := unarmor(k.t, q.Message, k.armor)
		request = r.request()
		fail = func(e *messages.KRBError) []byte { return r.fail(e) }
		reply = func(i *issue) []byte { return r.reply(i, spoiler{}) }
	}
	req := parseRequest(k.t, request)
	value, ok := req.PAData.Find(messages.PA_SPAKE)
	if !ok {
		offer := messages.PAData{Type: messages.PA_SPAKE}
		if k.optimistic {
			k.support = nil
			offer.Value = k.newChallenge()
		}
		return fail(errorFor(k.t, request, messages.KDC_ERR_PREAUTH_REQUIRED,
			messages.PAData{Type: messages.PA_ETYPE_INFO2, Value: messages.ETypeInfo2{entry(aes256, salt)}.Marshal()},
			messages.PAData{Type: messages.PA_ENC_TIMESTAMP}, // which is to be passed over
			offer, messages.PAData{Type: messages.PA_FX_COOKIE, Value: []byte("first")}))
	}
	m := must.OK(messages.ParsePASPAKE(value))(k.t)
	if m.Support != nil {
		if q.PreAuth {
			k.t.Error("the offer of groups counts as a proof")
		}
		if !slices.Equal(m.Support.Groups, spake.Groups()) {
			k.t.Errorf("groups %v", m.Support.Groups)
		}
		k.support = value
		return fail(errorFor(k.t, request, messages.KDC_ERR_MORE_PREAUTH_DATA_REQUIRED,
			messages.PAData{Type: messages.PA_SPAKE, Value: k.newChallenge()},
			messages.PAData{Type: messages.PA_FX_COOKIE, Value: []byte("second")}))
	}
	want := "second"
	if k.support == nil {
		want = "first"
	}
	if cookie, _ := req.PAData.Find(messages.PA_FX_COOKIE); string(cookie) != want || !q.PreAuth {
		k.t.Errorf("a response with the cookie %q, proof %v", cookie, q.PreAuth)
	}
	k.responses++
	keys := must.OK(k.party.Keys(k.support, k.challenge, m.Response.Pubkey))(k.t)
	check, _ := keys.Derive(1, req.Body.Raw)
	if _, err := check.Decrypt(enctype.KEY_USAGE_SPAKE, m.Response.Factor.Cipher); err != nil {
		return fail(errorFor(k.t, request, messages.KDC_ERR_PREAUTH_FAILED))
	}
	replyKey, _ := keys.Derive(0, req.Body.Raw)
	if k.ownKey {
		replyKey = k.key
	}
	return reply(newASIssue(k.t, request, replyKey))
}

func newSPAKELogin(t testing.TB, change ...func(*ASConfig)) *AS {
	return newFASTLogin(t, nil, change...)
}

func TestSPAKE_Login(t *testing.T) {
	for _, group := range spake.Groups() {
		for name, c := range map[string]struct{ optimistic, fast bool }{"": {}, "optimistic": {optimistic: true}, "with FAST": {fast: true}} {
			k := newSPAKEKDC(t, group)
			k.optimistic = c.optimistic
			if c.fast {
				k.armor = machineTGT(t)
			}
			a := newFASTLogin(t, k.armor)
			requests, err := run(t, a, k.answer)
			if err != nil {
				t.Fatalf("group %d, %s: %v", group, name, err)
			}
			want := 3
			if c.optimistic {
				want = 2
			}
			r := a.Result()
			if len(requests) != want || a.cfg.Budget.Sent() != 1 || r.Hint.PAType != messages.PA_SPAKE || !r.Credential.Client.Equal(alice) {
				t.Errorf("group %d, %s: %d requests, %+v", group, name, len(requests), r)
			}
			// The next login begins with the groups.
			if requests, err = run(t, newFASTLogin(t, k.armor, func(c *ASConfig) { c.Hint = r.Hint }), k.answer); err != nil || len(requests) != 2 {
				t.Errorf("group %d, %s: %d requests of the next login, %v", group, name, len(requests), err)
			}
		}
	}
}

func TestSPAKE_UnsupportedGroup(t *testing.T) {
	k := newSPAKEKDC(t, messages.SPAKE_GROUP_P256)
	challenge := spakeChallenge(messages.SPAKE_GROUP_P521, []byte("element"), messages.SPAKE_SF_NONE)
	for _, offer := range [][]byte{challenge, []byte("garbage")} {
		_, err := run(t, newSPAKELogin(t), func(n int, q *Request) []byte {
			if n > 0 {
				return k.answer(n, q)
			}
			return errorFor(t, q.Message, messages.KDC_ERR_PREAUTH_REQUIRED,
				messages.PAData{Type: messages.PA_ETYPE_INFO2, Value: messages.ETypeInfo2{entry(aes256, salt)}.Marshal()},
				messages.PAData{Type: messages.PA_SPAKE, Value: offer}).Marshal()
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestSPAKE_SecondFactor(t *testing.T) {
	k := newSPAKEKDC(t, messages.SPAKE_GROUP_EDWARDS25519)
	k.factor = -1
	for _, k.optimistic = range []bool{false, true} {
		_, err := run(t, newSPAKELogin(t), k.answer)
		if !errors.Is(err, ErrSecondFactor) || !strings.Contains(err.Error(), "second factor") || k.responses != 0 {
			t.Errorf("optimistic %v: %v after %d responses", k.optimistic, err, k.responses)
		}
	}
	// A question after the response can be nothing else.
	k = newSPAKEKDC(t, messages.SPAKE_GROUP_EDWARDS25519)
	_, err := run(t, newSPAKELogin(t), func(n int, q *Request) []byte {
		reply := k.answer(n, q)
		if k.responses == 0 {
			return reply
		}
		more := messages.PASPAKE{EncData: &messages.EncryptedData{EType: aes256, Cipher: []byte("your code?")}}
		return errorFor(t, q.Message, messages.KDC_ERR_MORE_PREAUTH_DATA_REQUIRED, messages.PAData{Type: messages.PA_SPAKE, Value: more.Marshal()}).Marshal()
	})
	if !errors.Is(err, ErrSecondFactor) || k.responses != 1 {
		t.Errorf("%v after %d responses", err, k.responses)
	}
}

func TestSPAKE_WrongKey(t *testing.T) {
	k := newSPAKEKDC(t, messages.SPAKE_GROUP_EDWARDS25519)
	for _, hint := range []*PreAuthHint{nil, {EType: aes256, Salt: salt, HasSalt: true, PAType: messages.PA_SPAKE}} {
		k.responses = 0
		a := newSPAKELogin(t, func(c *ASConfig) { c.Keys, c.Hint = passwordKeys{password: "wrong"}, hint })
		_, err := run(t, a, k.answer)
		wantCode(t, err, messages.KDC_ERR_PREAUTH_FAILED)
		if k.responses != 1 || a.cfg.Budget.Sent() != 1 {
			t.Errorf("hint %v: the key was proved %d times", hint != nil, k.responses)
		}
	}
}

// A party that cannot derive the same keys is not the KDC, even if it eavesdropped on one.
func TestSPAKE_ReplyKey(t *testing.T) {
	k := newSPAKEKDC(t, messages.SPAKE_GROUP_P256)
	k.ownKey = true
	_, err := run(t, newSPAKELogin(t), k.answer)
	wantField(t, err, "enc-part")
}

func TestSPAKE_BadChallenges(t *testing.T) {
	support := messages.PASPAKE{Support: &messages.SPAKESupport{Groups: spake.Groups()}}
	for name, c := range map[string]struct {
		value []byte
		say   string
	}{
		"garbage":             {[]byte("garbage"), "cannot be read"},
		"another message":     {support.Marshal(), "cannot be read"},
		"a group not offered": {spakeChallenge(messages.SPAKE_GROUP_P384, []byte("element"), messages.SPAKE_SF_NONE), "not offered"},
		"no element":          {spakeChallenge(messages.SPAKE_GROUP_P256, []byte("element"), messages.SPAKE_SF_NONE), "element"},
	} {
		k := newSPAKEKDC(t, messages.SPAKE_GROUP_EDWARDS25519)
		requests, err := run(t, newSPAKELogin(t), func(n int, q *Request) []byte {
			reply := k.answer(n, q)
			if n == 0 {
				return reply
			}
			return errorFor(t, q.Message, messages.KDC_ERR_MORE_PREAUTH_DATA_REQUIRED, messages.PAData{Type: messages.PA_SPAKE, Value: c.value}).Marshal()
		})
		if err == nil || !strings.Contains(err.Error(), c.say) || len(requests) != 2 {
			t.Errorf("%s: %v after %d requests", name, err, len(requests))
		}
	}
}

// A KDC, or who plays it, that asks the same again and again gets no more than a few answers.
func TestSPAKE_RoundsBounded(t *testing.T) {
	k := newSPAKEKDC(t, messages.SPAKE_GROUP_EDWARDS25519)
	requests, err := run(t, newSPAKELogin(t), func(n int, q *Request) []byte {
		bare := parseRequest(t, q.Message)
		bare.PAData = nil
		e, _ := messages.ParseKRBError(k.answer(n, &Request{Message: bare.Marshal()}))
		e.SUSec = int32(n) // no copy of an earlier one
		return e.Marshal()
	})
	wantCode(t, err, messages.KDC_ERR_PREAUTH_REQUIRED)
	if len(requests) > 5 {
		t.Errorf("%d requests", len(requests))
	}
}

func TestPreAuth_UnexpectedMoreData(t *testing.T) {
	for name, padata := range map[string][]messages.PAData{"nothing": nil, "SPAKE": {{Type: messages.PA_SPAKE}}} {
		requests, err := run(t, newSPAKELogin(t), func(_ int, q *Request) []byte {
			return errorFor(t, q.Message, messages.KDC_ERR_MORE_PREAUTH_DATA_REQUIRED, padata...).Marshal()
		})
		wantCode(t, err, messages.KDC_ERR_MORE_PREAUTH_DATA_REQUIRED)
		if len(requests) != 1 {
			t.Errorf("%s: %d requests", name, len(requests))
		}
	}
}
