package exchange

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// machineTGT is what the tests' armor is made of: the ticket of a machine.
func machineTGT(t testing.TB) *messages.Credential {
	t.Helper()
	ticket := messages.Ticket{
		Realm: realm, SName: messages.TGSName(realm),
		EncPart: messages.EncryptedData{EType: aes256, KVNO: 1, HasKVNO: true, Cipher: []byte("for the KDC alone")},
	}
	return &messages.Credential{
		Client:  messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "host", "proxy"), Realm: realm},
		Service: messages.Principal{Name: messages.TGSName(realm), Realm: realm},
		Key:     newKey(t, aes256), EndTime: epoch.Add(time.Hour), Ticket: ticket.Marshal(),
	}
}

// armoredRequest is an AS-REQ or TGS-REQ with armor, opened as a KDC opens it.
type armoredRequest struct {
	t     testing.TB
	outer *messages.KDCReq
	raw   []byte
	key   enctype.Key // of the armor
	inner *messages.KrbFastReq
	stamp time.Time // of the armor's authenticator
}

// unarmor verifies and opens a request. tgt is the ticket that the armor is made of.
func unarmor(t testing.TB, request []byte, tgt *messages.Credential) *armoredRequest {
	t.Helper()
	r := &armoredRequest{t: t, outer: parseRequest(t, request), raw: request}
	value, ok := r.outer.PAData.Find(messages.PA_FX_FAST)
	if !ok {
		t.Fatal("the request has no armor")
	}
	fast := must.OK(messages.ParseKrbFastArmoredReq(value))(t)
	var apReq []byte
	usage, outside := enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, r.outer.Body.Raw
	if r.outer.MsgType == messages.KRB_AS_REQ {
		apReq = fast.Armor.ArmorValue
	} else {
		if fast.Armor != nil {
			t.Error("a TGS-REQ with armor of its own")
		}
		apReq, _ = r.outer.PAData.Find(messages.PA_TGS_REQ)
		usage, outside = enctype.KEY_USAGE_TGS_REQ_AUTHENTICATOR, apReq
	}
	req := must.OK(messages.ParseAPReq(apReq))(t)
	if !bytes.Equal(req.Ticket.Raw, tgt.Ticket) {
		t.Fatal("the armor is of another ticket")
	}
	plain := must.OK(tgt.Key.Decrypt(usage, req.Authenticator.Cipher))(t)
	auth := must.OK(messages.ParseAuthenticator(plain))(t)
	r.stamp = auth.CTime
	r.key = must.OK(enctype.CF2(auth.Subkey, tgt.Key, "subkeyarmor", "ticketarmor"))(t)
	must.Do(t, r.key.VerifyChecksum(fast.ReqChecksum.Type, enctype.KEY_USAGE_FAST_REQ_CHKSUM, outside, fast.ReqChecksum.Value))
	plain = must.OK(r.key.Decrypt(enctype.KEY_USAGE_FAST_ENC, fast.EncFastReq.Cipher))(t)
	r.inner = must.OK(messages.ParseKrbFastReq(plain))(t)
	return r
}

// request is the true one, without its armor.
func (r *armoredRequest) request() []byte {
	req := messages.KDCReq{MsgType: r.outer.MsgType, PAData: r.inner.PAData, Body: r.inner.ReqBody}
	if value, ok := r.outer.PAData.Find(messages.PA_TGS_REQ); ok {
		req.PAData = append(messages.MethodData{{Type: messages.PA_TGS_REQ, Value: value}}, req.PAData...)
	}
	return req.Marshal()
}

func (r *armoredRequest) seal(response *messages.KrbFastResponse) messages.PAData {
	r.t.Helper()
	cipher := must.OK(r.key.Encrypt(testRand, enctype.KEY_USAGE_FAST_REP, response.Marshal()))(r.t)
	rep := messages.KrbFastArmoredRep{EncFastRep: messages.EncryptedData{EType: r.key.EType(), Cipher: cipher}}
	return messages.PAData{Type: messages.PA_FX_FAST, Value: rep.Marshal()}
}

// fail is a KRB-ERROR in armor; spoil may change what is in there.
func (r *armoredRequest) fail(e *messages.KRBError, spoil ...func(*messages.KrbFastResponse)) []byte {
	r.t.Helper()
	padata := e.Data().PAData
	inner := *e
	inner.EData = nil
	padata = append(padata, messages.PAData{Type: messages.PA_FX_ERROR, Value: inner.Marshal()})
	response := &messages.KrbFastResponse{PAData: padata, Nonce: r.inner.ReqBody.Nonce}
	for _, s := range spoil {
		s(response)
	}
	outer := *e
	outer.EData = messages.MethodData{r.seal(response)}.Marshal()
	return outer.Marshal()
}

// spoiler changes a good reply before it is sealed.
type spoiler struct {
	response func(*messages.KrbFastResponse)
	rep      func(*messages.KDCRep)
}

// reply seals a reply in armor. The reply key is strengthened.
func (r *armoredRequest) reply(i *issue, spoil spoiler) []byte {
	r.t.Helper()
	strengthen := newKey(r.t, i.key.EType())
	key := must.OK(enctype.CF2(strengthen, i.key, "strengthenkey", "replykey"))(r.t)
	for n, p := range i.part.EncryptedPAData {
		if p.Type == messages.PA_REQ_ENC_PA_REP {
			sum := must.OK(key.Checksum(enctype.KEY_USAGE_AS_REQ, r.raw))(r.t)
			i.part.EncryptedPAData[n].Value = messages.Checksum{Type: key.ChecksumType(), Value: sum}.Marshal()
		}
	}
	i.key = key
	sum := must.OK(r.key.Checksum(enctype.KEY_USAGE_FAST_FINISHED, i.rep.Ticket.Marshal()))(r.t)
	response := &messages.KrbFastResponse{
		PAData: i.rep.PAData, StrengthenKey: strengthen, Nonce: r.inner.ReqBody.Nonce,
		Finished: &messages.KrbFastFinished{
			Timestamp: epoch, CRealm: i.rep.CRealm, CName: i.rep.CName,
			TicketChecksum: messages.Checksum{Type: r.key.ChecksumType(), Value: sum},
		},
	}
	if spoil.response != nil {
		spoil.response(response)
	}
	i.rep.PAData = messages.MethodData{r.seal(response)}
	if spoil.rep != nil {
		spoil.rep(&i.rep)
	}
	return i.seal(r.t)
}

// challenged is PREAUTH_REQUIRED as a KDC says it within armor.
func challenged(t testing.TB, r *armoredRequest) *messages.KRBError {
	return errorFor(t, r.request(), messages.KDC_ERR_PREAUTH_REQUIRED,
		messages.PAData{Type: messages.PA_FX_FAST},
		messages.PAData{Type: messages.PA_ETYPE_INFO2, Value: messages.ETypeInfo2{entry(aes256, salt)}.Marshal()},
		messages.PAData{Type: messages.PA_ENCRYPTED_CHALLENGE},
		messages.PAData{Type: messages.PA_FX_COOKIE, Value: []byte("cookie")},
	)
}

// answerChallenge verifies PA-ENCRYPTED-CHALLENGE and gives the KDC's; ok is false if the request has none.
func (r *armoredRequest) answerChallenge(key enctype.Key) (kdcs messages.PAData, ok bool) {
	r.t.Helper()
	value, ok := r.inner.PAData.Find(messages.PA_ENCRYPTED_CHALLENGE)
	if !ok {
		return kdcs, false
	}
	data := must.OK(messages.ParseEncryptedData(value))(r.t)
	client, _ := enctype.CF2(r.key, key, "clientchallengearmor", "challengelongterm")
	must.OK(client.Decrypt(enctype.KEY_USAGE_ENC_CHALLENGE_CLIENT, data.Cipher))(r.t)
	return r.kdcChallenge(key), true
}

func (r *armoredRequest) kdcChallenge(key enctype.Key) messages.PAData {
	kdcKey, _ := enctype.CF2(r.key, key, "kdcchallengearmor", "challengelongterm")
	cipher := must.OK(kdcKey.Encrypt(testRand, enctype.KEY_USAGE_ENC_CHALLENGE_KDC, messages.NewPAEncTSEnc(epoch).Marshal()))(r.t)
	return messages.PAData{
		Type: messages.PA_ENCRYPTED_CHALLENGE, Value: messages.EncryptedData{EType: kdcKey.EType(), Cipher: cipher}.Marshal(),
	}
}

// fastKDC is a KDC that takes armored requests of alice's only.
func fastKDC(t testing.TB, tgt *messages.Credential, spoil spoiler) kdc {
	key := mustKey(t, aes256, password, salt)
	return func(n int, q *Request) []byte {
		r := unarmor(t, q.Message, tgt)
		challenge, ok := r.answerChallenge(key)
		if !ok {
			return r.fail(challenged(t, r))
		}
		if cookie, _ := r.inner.PAData.Find(messages.PA_FX_COOKIE); n > 0 && string(cookie) != "cookie" {
			t.Errorf("cookie is %q", cookie)
		}
		i := newASIssue(t, r.request(), key)
		i.rep.PAData = messages.MethodData{challenge}
		return r.reply(i, spoil)
	}
}

func newFASTLogin(t testing.TB, tgt *messages.Credential, change ...func(*ASConfig)) *AS {
	t.Helper()
	cfg := ASConfig{Client: alice, Keys: passwordKeys{password: password}, Armor: tgt, Env: testEnv(nil, testRand)}
	for _, c := range change {
		c(&cfg)
	}
	return must.OK(NewAS(cfg))(t)
}

func TestFAST_Login(t *testing.T) {
	tgt := machineTGT(t)
	a := newFASTLogin(t, tgt)
	requests := must.OK(run(t, a, fastKDC(t, tgt, spoiler{})))(t)
	if len(requests) != 2 || requests[0].PreAuth || !requests[1].PreAuth {
		t.Errorf("%d requests", len(requests))
	}
	for _, q := range requests {
		outer := parseRequest(t, q.Message)
		if len(outer.PAData) != 1 || outer.Body.Nonce != 0 {
			t.Errorf("outside the armor there is %v", outer.PAData)
		}
	}
	r := a.Result()
	if r.Credential == nil || !r.Credential.Client.Equal(alice) || r.Hint.PAType != messages.PA_ENCRYPTED_CHALLENGE {
		t.Errorf("%+v", r)
	}
	// What is known now spares the first round.
	a = newFASTLogin(t, tgt, func(c *ASConfig) { c.Hint = r.Hint })
	requests = must.OK(run(t, a, fastKDC(t, tgt, spoiler{})))(t)
	wantRequests(t, requests, 1)
}

func TestFAST_SpoiltReplies(t *testing.T) {
	key := mustKey(t, aes256, password, salt)
	wrong := mustKey(t, aes256, "wrong", salt)
	for name, c := range map[string]struct {
		spoil spoiler
		field string
	}{
		"nonce":      {spoiler{response: func(r *messages.KrbFastResponse) { r.Nonce++ }}, "nonce"},
		"unfinished": {spoiler{response: func(r *messages.KrbFastResponse) { r.Finished = nil }}, "KrbFastFinished"},
		"another ticket": {spoiler{response: func(r *messages.KrbFastResponse) {
			r.Finished.TicketChecksum.Value[0] ^= 1
		}}, "ticket-checksum"},
		"another client": {spoiler{response: func(r *messages.KrbFastResponse) {
			r.Finished.CName = messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "mallory")
		}}, "cname"},
		"another realm": {spoiler{response: func(r *messages.KrbFastResponse) { r.Finished.CRealm = "OTHER.TEST" }}, "crealm"},
		"another strengthen-key": {spoiler{response: func(r *messages.KrbFastResponse) {
			r.StrengthenKey = newKey(t, aes256)
		}}, "enc-part"},
		"no strengthen-key":   {spoiler{response: func(r *messages.KrbFastResponse) { r.StrengthenKey = enctype.Key{} }}, "enc-part"},
		"no proof of the KDC": {spoiler{response: func(r *messages.KrbFastResponse) { r.PAData = nil }}, "PA-ENCRYPTED-CHALLENGE"},
		"no armor":            {spoiler{rep: func(r *messages.KDCRep) { r.PAData = nil }}, "PA-FX-FAST"},
		"garbage":             {spoiler{rep: func(r *messages.KDCRep) { r.PAData[0].Value = []byte("garbage") }}, "PA-FX-FAST"},
		"spoilt": {spoiler{rep: func(r *messages.KDCRep) {
			v := r.PAData[0].Value
			v[len(v)-1] ^= 1
		}}, "PA-FX-FAST"},
	} {
		t.Run(name, func(t *testing.T) {
			tgt := machineTGT(t)
			_, err := run(t, newFASTLogin(t, tgt), fastKDC(t, tgt, c.spoil))
			wantField(t, err, c.field)
		})
	}
	t.Run("proof with another key", func(t *testing.T) {
		tgt := machineTGT(t)
		_, err := run(t, newFASTLogin(t, tgt), func(_ int, q *Request) []byte {
			r := unarmor(t, q.Message, tgt)
			if _, ok := r.answerChallenge(key); !ok {
				return r.fail(challenged(t, r))
			}
			i := newASIssue(t, r.request(), key)
			i.rep.PAData = messages.MethodData{r.kdcChallenge(wrong)}
			return r.reply(i, spoiler{})
		})
		wantField(t, err, "PA-ENCRYPTED-CHALLENGE")
	})
}

// The name outside the armor may be anything.
func TestFAST_ClientOfArmor(t *testing.T) {
	tgt := machineTGT(t)
	a := newFASTLogin(t, tgt)
	_, err := run(t, a, fastKDC(t, tgt, spoiler{rep: func(r *messages.KDCRep) {
		r.CName = messages.NewPrincipalName(messages.KRB_NT_WELLKNOWN, "WELLKNOWN", "ANONYMOUS")
	}}))
	if err != nil || !a.Result().Credential.Client.Equal(alice) {
		t.Errorf("%v, %v", a.Result().Credential, err)
	}
}

func TestFAST_Errors(t *testing.T) {
	tgt := machineTGT(t)
	_, err := run(t, newFASTLogin(t, tgt), func(_ int, q *Request) []byte {
		r := unarmor(t, q.Message, tgt)
		e := errorFor(t, r.request(), messages.KDC_ERR_CLIENT_REVOKED)
		reply := r.fail(e)
		outer := must.OK(messages.ParseKRBError(reply))(t)
		outer.ErrorCode = messages.KDC_ERR_PREAUTH_REQUIRED
		return outer.Marshal()
	})
	wantCode(t, err, messages.KDC_ERR_CLIENT_REVOKED)
	if _, ok := errors.AsType[*UnarmoredError](err); ok {
		t.Error("an armored error is taken for a hint")
	}
	for name, c := range map[string]struct {
		spoil func(*messages.KrbFastResponse)
		field string
	}{
		"nonce":       {func(r *messages.KrbFastResponse) { r.Nonce++ }, "nonce"},
		"no FX-ERROR": {func(r *messages.KrbFastResponse) { r.PAData = nil }, "PA-FX-ERROR"},
		"garbage": {func(r *messages.KrbFastResponse) {
			r.PAData = messages.MethodData{{Type: messages.PA_FX_ERROR, Value: []byte("garbage")}}
		}, "PA-FX-ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := run(t, newFASTLogin(t, tgt), func(_ int, q *Request) []byte {
				r := unarmor(t, q.Message, tgt)
				return r.fail(errorFor(t, r.request(), messages.KDC_ERR_CLIENT_REVOKED), c.spoil)
			})
			wantField(t, err, c.field)
		})
	}
}

// Any host on the way can make them. Nothing goes out unarmored because of it, and no key is proved.
func TestFAST_UnarmoredErrors(t *testing.T) {
	for _, code := range []messages.ErrorCode{
		messages.KDC_ERR_PREAUTH_REQUIRED, messages.KDC_ERR_PREAUTH_FAILED, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, messages.KDC_ERR_WRONG_REALM,
	} {
		tgt := machineTGT(t)
		requests, err := run(t, newFASTLogin(t, tgt), func(_ int, q *Request) []byte {
			e := errorFor(t, q.Message, code, messages.PAData{Type: messages.PA_ENC_TIMESTAMP})
			e.CRealm = "EVIL.TEST"
			return e.Marshal()
		})
		var hint *UnarmoredError
		if !errors.As(err, &hint) || hint.Err.ErrorCode != code || len(requests) != 1 {
			t.Errorf("%s: %v after %d requests", code, err, len(requests))
		}
		wantCode(t, err, code)
		if !strings.Contains(err.Error(), "FAST") {
			t.Errorf("%v does not tell of FAST", err)
		}
	}
}

func TestFAST_Skew(t *testing.T) {
	tgt := machineTGT(t)
	good := fastKDC(t, tgt, spoiler{})
	var stamps []time.Time
	a := newFASTLogin(t, tgt, func(c *ASConfig) { c.Now = func() time.Time { return epoch.Add(-time.Hour) } })
	_, err := run(t, a, func(n int, q *Request) []byte {
		stamps = append(stamps, unarmor(t, q.Message, tgt).stamp)
		if n == 0 {
			return errorFor(t, q.Message, messages.KRB_AP_ERR_SKEW).Marshal()
		}
		return good(n, q)
	})
	if err != nil || len(stamps) != 3 || stamps[1].Sub(stamps[0]) < 59*time.Minute {
		t.Errorf("%v, armor of %v", err, stamps)
	}
}

func TestFAST_ArmorRealm(t *testing.T) {
	tgt := machineTGT(t)
	tgt.Service.Name = messages.TGSName("OTHER.TEST")
	for name, armor := range map[string]*messages.Credential{"another realm's": tgt, "no TGT": {Service: messages.Principal{Name: web, Realm: realm}}} {
		if _, err := NewAS(ASConfig{Client: alice, Keys: passwordKeys{}, Armor: armor}); err == nil || !strings.Contains(err.Error(), "FAST") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nor does armor go to where a referral leads.
	tgt = machineTGT(t)
	requests, err := run(t, newFASTLogin(t, tgt, func(c *ASConfig) { c.Canonicalize = true }), func(_ int, q *Request) []byte {
		r := unarmor(t, q.Message, tgt)
		e := errorFor(t, r.request(), messages.KDC_ERR_WRONG_REALM)
		e.CRealm = "OTHER.TEST"
		return r.fail(e)
	})
	var referral *ReferralError
	if !errors.As(err, &referral) || !strings.Contains(referral.Reason, "FAST") || len(requests) != 1 {
		t.Errorf("%v after %d requests", err, len(requests))
	}
}

// fastTicket answers TGS-REQs.
func fastTicket(t testing.TB, tgt *messages.Credential, spoil spoiler) kdc {
	return func(_ int, q *Request) []byte {
		r := unarmor(t, q.Message, tgt)
		return r.reply(newTGSIssue(t, q.Message, tgt), spoil)
	}
}

func aliceTGT(t testing.TB) *messages.Credential {
	tgt := machineTGT(t)
	tgt.Client = alice
	return tgt
}

func TestFAST_TicketRequest(t *testing.T) {
	tgt := aliceTGT(t)
	m := must.OK(NewTGS(TGSConfig{Session: Session{Env: testEnv(nil, testRand), TGT: tgt, FAST: true}, Service: web}))(t)
	must.OK(run(t, m, fastTicket(t, tgt, spoiler{})))(t)
	if c := m.Result().Credential; c == nil || !c.Service.Name.Equal(web) {
		t.Errorf("%v", c)
	}
	for name, c := range map[string]struct {
		spoil spoiler
		field string
	}{
		"armor lost":     {spoiler{rep: func(r *messages.KDCRep) { r.PAData = nil }}, "enc-part"},
		"nonce":          {spoiler{response: func(r *messages.KrbFastResponse) { r.Nonce++ }}, "nonce"},
		"another ticket": {spoiler{response: func(r *messages.KrbFastResponse) { r.Finished.TicketChecksum.Value[0] ^= 1 }}, "ticket-checksum"},
		"strengthen-key": {spoiler{response: func(r *messages.KrbFastResponse) { r.StrengthenKey = newKey(t, aes256) }}, "enc-part"},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := NewTGS(TGSConfig{Session: Session{Env: testEnv(nil, testRand), TGT: tgt, FAST: true}, Service: web})
			_, err := run(t, m, fastTicket(t, tgt, c.spoil))
			wantField(t, err, c.field)
		})
	}
}

// Heimdal 7 overlooks the armor of a TGS-REQ.
func TestFAST_TicketWithoutArmor(t *testing.T) {
	tgt := aliceTGT(t)
	get := func(changes ...func(*issue)) error {
		m := must.OK(NewTGS(TGSConfig{Session: Session{Env: testEnv(nil, testRand), TGT: tgt, FAST: true}, Service: web}))(t)
		_, err := run(t, m, granting(t, tgt, changes...))
		return err
	}
	must.Do(t, get())
	wantField(t, get(func(i *issue) { i.key = newKey(t, aes256) }), "enc-part")
	wantField(t, get(func(i *issue) { i.part.Nonce++ }), "nonce")
	wantField(t, get(func(i *issue) { i.client(bob) }), "cname")

	// For a user the armor must be there, although what is encrypted is right.
	proxy := newProxy(t, func(cfg *S4U2ProxyConfig) { cfg.FAST = true })
	_, err := run(t, proxy, func(_ int, q *Request) []byte {
		unarmor(t, q.Message, proxy.cfg.TGT)
		return newTGSIssue(t, q.Message, proxy.cfg.TGT).changed([]func(*issue){func(i *issue) { i.client(alice) }}).seal(t)
	})
	wantField(t, err, "PA-FX-FAST")
	self := newSelf(t, func(cfg *S4U2SelfConfig) { cfg.FAST = true })
	_, err = run(t, self, func(_ int, q *Request) []byte {
		r := unarmor(t, q.Message, self.cfg.TGT)
		i := selfIssue(t, r.request(), self.cfg.TGT)
		i.bind(t, nil)
		return i.seal(t)
	})
	wantField(t, err, "PA-FX-FAST")
}

func TestFAST_TicketErrors(t *testing.T) {
	tgt := aliceTGT(t)
	for _, inArmor := range []bool{true, false} {
		m, _ := NewTGS(TGSConfig{Session: Session{Env: testEnv(nil, testRand), TGT: tgt, FAST: true}, Service: web})
		_, err := run(t, m, func(_ int, q *Request) []byte {
			r := unarmor(t, q.Message, tgt)
			e := errorFor(t, q.Message, messages.KDC_ERR_POLICY)
			if inArmor {
				return r.fail(e)
			}
			return e.Marshal()
		})
		wantCode(t, err, messages.KDC_ERR_POLICY)
		var hint *UnarmoredError
		if errors.As(err, &hint) == inArmor {
			t.Errorf("armored %v: %v", inArmor, err)
		}
	}
}

// KDCs of other realms may be of an age without FAST.
func TestFAST_ForeignTicket(t *testing.T) {
	tgt := aliceTGT(t)
	tgt.Service.Name = messages.TGSName("OTHER.TEST")
	m := must.OK(NewTGS(TGSConfig{Session: Session{Env: testEnv(nil, testRand), TGT: tgt, FAST: true}, Service: web, Realm: "OTHER.TEST"}))(t)
	_, err := run(t, m, func(_ int, q *Request) []byte {
		unarmor(t, q.Message, tgt)
		return newTGSIssue(t, q.Message, tgt).seal(t)
	})
	if err != nil || m.Result().Credential == nil {
		t.Error(err)
	}
}
