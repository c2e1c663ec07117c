package exchange

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// The world of the tests: one realm, one client, one service, and a clock that does not move.
const (
	realm    = "KRB5.TEST"
	password = "alice-Pw-1"
	salt     = "KRB5.TESTalice"
)

var (
	epoch   = time.Date(2026, 11, 20, 5, 52, 49, 17190000, time.UTC)
	alice   = messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "alice"), Realm: realm}
	proxy   = messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "HTTP", "proxy.krb5.test"), Realm: realm}
	web     = messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", "web.krb5.test")
	aes256  = enctype.AES256_CTS_HMAC_SHA1_96
	aes128  = enctype.AES128_CTS_HMAC_SHA1_96
	bothAES = []enctype.ID{aes256, aes128}
)

func atEpoch() time.Time { return epoch }

// counter is a source of bytes that never repeats a key within a test.
type counter struct{ n uint64 }

func (c *counter) Read(b []byte) (int, error) {
	for i := range b {
		c.n = c.n*6364136223846793005 + 1442695040888963407
		b[i] = byte(c.n >> 56)
	}
	return len(b), nil
}

var testRand = &counter{n: 1}

// passwordKeys makes keys of a password, as a client with a password does.
type passwordKeys struct {
	password string
	asked    *[]KeyInfo
}

func (p passwordKeys) ETypes() []enctype.ID { return nil }

func (p passwordKeys) Key(i KeyInfo) (enctype.Key, error) {
	if p.asked != nil {
		*p.asked = append(*p.asked, i)
	}
	return enctype.StringToKey(i.EType, p.password, i.Salt, i.Params)
}

// heldKeys is a keytab: keys by type and version, 0 for the newest.
type heldKeys map[keyID]enctype.Key

// keyID is what a keytab finds a key by.
type keyID struct {
	EType enctype.ID
	KVNO  uint32
}

func (h heldKeys) ETypes() []enctype.ID {
	var ids []enctype.ID
	for k := range h {
		if !slices.Contains(ids, k.EType) {
			ids = append(ids, k.EType)
		}
	}
	slices.Sort(ids)
	return ids
}

func (h heldKeys) Key(i KeyInfo) (enctype.Key, error) {
	k, ok := h[keyID{i.EType, i.KVNO}]
	if !ok {
		return enctype.Key{}, ErrNoKey
	}
	return k, nil
}

func mustKey(t testing.TB, id enctype.ID, password, salt string) enctype.Key {
	t.Helper()
	return must.OK(enctype.StringToKey(id, password, salt, nil))(t)
}

func newKey(t testing.TB, id enctype.ID) enctype.Key {
	t.Helper()
	return must.OK(enctype.GenerateKey(id, testRand))(t)
}

// issue is a reply in the making. A test spoils one thing in it before it is sealed.
type issue struct {
	req     *messages.KDCReq
	request []byte
	rep     messages.KDCRep
	part    messages.EncKDCRepPart
	key     enctype.Key
	usage   enctype.Usage
	subkey  enctype.Key // TGS: from the authenticator
	auth    *messages.Authenticator
}

func parseRequest(t testing.TB, request []byte) *messages.KDCReq {
	t.Helper()
	req, err := messages.ParseKDCReq(request)
	if err != nil {
		t.Fatalf("request: %v", err)
	}
	return req
}

func newIssue(req *messages.KDCReq, request []byte, client messages.Principal, sessionKey enctype.Key) *issue {
	end := req.Body.Till
	if end.Unix() == 0 || end.After(epoch.Add(10*time.Hour)) {
		end = epoch.Add(10 * time.Hour).Truncate(time.Second)
	}
	i := &issue{req: req, request: request}
	i.rep = messages.KDCRep{
		CRealm: client.Realm, CName: client.Name,
		Ticket: messages.Ticket{
			Realm: req.Body.Realm, SName: req.Body.SName,
			EncPart: messages.EncryptedData{EType: aes256, KVNO: 1, HasKVNO: true, Cipher: []byte("for the service alone")},
		},
	}
	i.part = messages.EncKDCRepPart{
		Key:      sessionKey,
		LastReq:  messages.LastReq{{Type: messages.LR_NONE, Value: epoch.Truncate(time.Second)}},
		Nonce:    req.Body.Nonce,
		Flags:    messages.TicketFlags(req.Body.KDCOptions) & (messages.TKT_FLG_FORWARDABLE | messages.TKT_FLG_FORWARDED | messages.TKT_FLG_RENEWABLE),
		AuthTime: epoch.Truncate(time.Second),
		EndTime:  end,
		SRealm:   req.Body.Realm, SName: req.Body.SName,
	}
	if i.part.Flags&messages.TKT_FLG_RENEWABLE != 0 {
		i.part.RenewTill = epoch.Add(7 * 24 * time.Hour).Truncate(time.Second)
	}
	return i
}

// newASIssue is a good answer to an AS-REQ.
func newASIssue(t testing.TB, request []byte, key enctype.Key) *issue {
	t.Helper()
	req := parseRequest(t, request)
	if req.MsgType != messages.KRB_AS_REQ {
		t.Fatalf("request is %s", req.MsgType)
	}
	i := newIssue(req, request, messages.Principal{Name: req.Body.CName, Realm: req.Body.Realm}, newKey(t, aes256))
	i.rep.MsgType = messages.KRB_AS_REP
	i.part.Flags |= messages.TKT_FLG_INITIAL | messages.TKT_FLG_ENC_PA_REP
	i.key, i.usage = key, enctype.KEY_USAGE_AS_REP
	sum := must.OK(key.Checksum(enctype.KEY_USAGE_AS_REQ, request))(t)
	i.part.EncryptedPAData = messages.MethodData{
		{Type: messages.PA_REQ_ENC_PA_REP, Value: messages.Checksum{Type: key.ChecksumType(), Value: sum}.Marshal()},
		{Type: messages.PA_FX_FAST},
	}
	return i
}

// newTGSIssue is a good answer to a TGS-REQ that uses tgt. It verifies the request as a KDC does.
func newTGSIssue(t testing.TB, request []byte, tgt *messages.Credential) *issue {
	t.Helper()
	req := parseRequest(t, request)
	value, ok := req.PAData.Find(messages.PA_TGS_REQ)
	if req.MsgType != messages.KRB_TGS_REQ || !ok {
		t.Fatalf("request is %s, PA-TGS-REQ %v", req.MsgType, ok)
	}
	apReq := must.OK(messages.ParseAPReq(value))(t)
	if !bytes.Equal(apReq.Ticket.Raw, tgt.Ticket) {
		t.Fatalf("request to %s has another ticket than that for %s", req.Body.Realm, tgt.Service)
	}
	plain, err := tgt.Key.Decrypt(enctype.KEY_USAGE_TGS_REQ_AUTHENTICATOR, apReq.Authenticator.Cipher)
	if err != nil {
		t.Fatalf("authenticator: %v", err)
	}
	auth := must.OK(messages.ParseAuthenticator(plain))(t)
	if err := tgt.Key.VerifyChecksum(auth.Cksum.Type, enctype.KEY_USAGE_TGS_REQ_CHECKSUM, req.Body.Raw, auth.Cksum.Value); err != nil {
		t.Fatalf("checksum over the body: %v", err)
	}
	if client := (messages.Principal{Name: auth.CName, Realm: auth.CRealm}); !client.Equal(tgt.Client) {
		t.Fatalf("authenticator is of %s, TGT of %s", client, tgt.Client)
	}
	i := newIssue(req, request, tgt.Client, newKey(t, req.Body.EType[0]))
	i.rep.MsgType = messages.KRB_TGS_REP
	i.part.Tag = messages.EncTGSRepPartTag
	i.part.StartTime = epoch.Truncate(time.Second)
	i.part.AuthTime = epoch.Add(-time.Minute).Truncate(time.Second)
	i.key, i.usage, i.subkey, i.auth = auth.Subkey, enctype.KEY_USAGE_TGS_REP_SUBKEY, auth.Subkey, auth
	return i
}

// service makes the ticket one for another service than was asked for.
func (i *issue) service(name messages.PrincipalName) {
	i.rep.Ticket.SName, i.part.SName = name, name
}

// client makes the ticket another client's.
func (i *issue) client(p messages.Principal) { i.rep.CName, i.rep.CRealm = p.Name, p.Realm }

func (i *issue) changed(changes []func(*issue)) *issue {
	for _, change := range changes {
		change(i)
	}
	return i
}

func (i *issue) seal(t testing.TB) []byte {
	t.Helper()
	cipher := must.OK(i.key.Encrypt(testRand, i.usage, i.part.Marshal()))(t)
	i.rep.EncPart = messages.EncryptedData{EType: i.key.EType(), KVNO: i.rep.EncPart.KVNO, HasKVNO: i.rep.EncPart.HasKVNO, Cipher: cipher}
	return i.rep.Marshal()
}

// cred is the credential that the client gets by the reply.
func (i *issue) cred() *messages.Credential { return messages.NewCredential(&i.rep, &i.part) }

// errorFor is a KRB-ERROR in answer to a request.
func errorFor(t testing.TB, request []byte, code messages.ErrorCode, padata ...messages.PAData) *messages.KRBError {
	t.Helper()
	req := parseRequest(t, request)
	e := &messages.KRBError{
		STime: epoch.Truncate(time.Second), SUSec: 17188, ErrorCode: code,
		Realm: req.Body.Realm, SName: req.Body.SName,
	}
	if req.MsgType == messages.KRB_AS_REQ {
		e.CRealm, e.CName = req.Body.Realm, req.Body.CName
	}
	if padata != nil {
		e.EData = messages.MethodData(padata).Marshal()
	}
	return e
}

// preAuthRequired asks for pre-authentication with these keys.
func preAuthRequired(t testing.TB, request []byte, entries ...messages.ETypeInfo2Entry) []byte {
	t.Helper()
	return errorFor(t, request, messages.KDC_ERR_PREAUTH_REQUIRED,
		messages.PAData{Type: messages.PA_FX_FAST},
		messages.PAData{Type: messages.PA_ETYPE_INFO2, Value: messages.ETypeInfo2(entries).Marshal()},
		messages.PAData{Type: messages.PA_ENC_TIMESTAMP},
		messages.PAData{Type: messages.PA_FX_COOKIE, Value: []byte("MIT")},
	).Marshal()
}

func entry(id enctype.ID, salt string) messages.ETypeInfo2Entry {
	return messages.ETypeInfo2Entry{EType: id, Salt: salt, HasSalt: true}
}

// timestamp decrypts PA-ENC-TIMESTAMP as a KDC does, or returns nil if the request has none.
func timestamp(t testing.TB, request []byte, key enctype.Key) *messages.PAEncTSEnc {
	t.Helper()
	value, ok := parseRequest(t, request).PAData.Find(messages.PA_ENC_TIMESTAMP)
	if !ok {
		return nil
	}
	e := must.OK(messages.ParseEncryptedData(value))(t)
	plain, err := key.Decrypt(enctype.KEY_USAGE_AS_REQ_PA_ENC_TIMESTAMP, e.Cipher)
	if err != nil {
		t.Fatalf("PA-ENC-TIMESTAMP: %v", err)
	}
	return must.OK(messages.ParsePAEncTSEnc(plain))(t)
}

// kdc answers the n-th request, counted from 0.
type kdc func(n int, r *Request) []byte

// inTurn has each request answered by the next KDC, and the rest by the last one.
func inTurn(kdcs ...kdc) kdc {
	return func(n int, r *Request) []byte { return kdcs[min(n, len(kdcs)-1)](n, r) }
}

// demanding asks for pre-authentication with the usual key.
func demanding(t testing.TB) kdc {
	return func(_ int, r *Request) []byte { return preAuthRequired(t, r.Message, entry(aes256, salt)) }
}

// refusing answers with an error.
func refusing(t testing.TB, code messages.ErrorCode) kdc {
	return func(_ int, r *Request) []byte { return errorFor(t, r.Message, code).Marshal() }
}

// wrongRealm refers the client to another realm.
func wrongRealm(t testing.TB, r *Request, to string) []byte {
	t.Helper()
	e := errorFor(t, r.Message, messages.KDC_ERR_WRONG_REALM)
	e.CRealm = to
	return e.Marshal()
}

func referring(t testing.TB, to string) kdc {
	return func(_ int, r *Request) []byte { return wrongRealm(t, r, to) }
}

// loggingIn gives good answers to AS-REQs, after changes. It verifies the timestamp, if there is one.
func loggingIn(t testing.TB, key enctype.Key, changes ...func(*issue)) kdc {
	return func(_ int, r *Request) []byte {
		timestamp(t, r.Message, key)
		return newASIssue(t, r.Message, key).changed(changes).seal(t)
	}
}

// granting gives good answers to TGS-REQs with the TGT, after changes.
func granting(t testing.TB, tgt *messages.Credential, changes ...func(*issue)) kdc {
	return func(_ int, r *Request) []byte {
		return newTGSIssue(t, r.Message, tgt).changed(changes).seal(t)
	}
}

// impersonating gives good answers to S4U2Self requests, after changes.
func impersonating(t testing.TB, tgt *messages.Credential, changes ...func(*issue)) kdc {
	return func(_ int, r *Request) []byte {
		return selfIssue(t, r.Message, tgt).changed(changes).seal(t)
	}
}

// run runs a machine against a KDC to its end and returns the requests. Before each Step it checks that Check agrees
// and has no effect.
func run(t testing.TB, m Machine, answer kdc) ([]*Request, error) {
	t.Helper()
	var requests []*Request
	req, err := m.Step(nil)
	for n := 0; err == nil && req != nil; n++ {
		if n > 40 {
			t.Fatal("the machine does not end")
		}
		requests = append(requests, req)
		reply := answer(n, req)
		checked := m.Check(reply)
		req, err = m.Step(reply)
		if errors.Is(err, ErrForeign) != (checked != nil) {
			t.Fatalf("Check says %v, Step says %v", checked, err)
		}
	}
	if err == nil {
		if _, err := m.Step(nil); !errors.Is(err, ErrFinished) {
			t.Fatalf("Step after the end: %v", err)
		}
	}
	return requests, err
}

// trail collects the texts of events.
type trail []string

func (l *trail) add(e Event) { *l = append(*l, e.String()) }

func (l trail) wants(t testing.TB, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !slices.ContainsFunc(l, func(s string) bool { return strings.Contains(s, part) }) {
			t.Errorf("no event says %q; events:\n%s", part, strings.Join(l, "\n"))
		}
	}
}

func wantCode(t testing.TB, err error, code messages.ErrorCode) {
	t.Helper()
	var e *messages.KRBError
	if !errors.As(err, &e) || e.Code() != code {
		t.Fatalf("error is %v, not %s", err, code)
	}
}

func wantRequests(t testing.TB, requests []*Request, n int) {
	t.Helper()
	if len(requests) != n {
		t.Errorf("%d requests, not %d", len(requests), n)
	}
}

// wantField fails unless a reply was refused for the field; unless it was not, where field is empty.
func wantField(t testing.TB, err error, field string) {
	t.Helper()
	if field == "" {
		must.Do(t, err)
		return
	}
	var e *ReplyError
	if !errors.As(err, &e) || !errors.Is(err, ErrForeign) {
		t.Fatalf("error is %v, no ReplyError", err)
	}
	if !strings.Contains(e.Field, field) {
		t.Fatalf("reply refused for %s (%v), not for %s", e.Field, err, field)
	}
}

// testEnv is a client's environment at the epoch.
func testEnv(etypes []enctype.ID, random io.Reader) Env {
	return Env{ETypes: etypes, Now: atEpoch, Rand: random}
}

// testSession is what the exchanges by a TGT have in common.
func testSession(tgt *messages.Credential) Session {
	return Session{Env: testEnv(bothAES, testRand), TGT: tgt}
}
