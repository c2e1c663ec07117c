package messages

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

func keyOf(t *testing.T, k vectors.Key) enctype.Key {
	t.Helper()
	return must.OK(enctype.NewKey(enctype.ID(k.EType), k.Key))(t)
}

func nameOf(n vectors.Name) PrincipalName { return PrincipalName{NameType(n.Type), n.Name} }

func checksumOf(c vectors.Checksum) Checksum {
	return Checksum{enctype.ChecksumType(c.Type), c.Value}
}

func paDataOf(list []vectors.PAData) MethodData {
	m := MethodData{}
	for _, p := range list {
		m = append(m, PAData{PADataType(p.Type), p.Value})
	}
	return m
}

func (m MethodData) types() []int32 {
	var list []int32
	for _, p := range m {
		list = append(list, int32(p.Type))
	}
	return list
}

// equal reports a field that is not as expected.
func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// reread parses b, and checks that the fields, the original bytes forgotten, are written as b
// again.
func reread[T marshaler](t *testing.T, what string, b []byte, parse func([]byte) (T, error)) T {
	t.Helper()
	again, err := parse(b)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	stripRaw(again)
	if got := again.Marshal(); !bytes.Equal(got, b) {
		t.Errorf("%s is written differently:\n got %x\nwant %x", what, got, b)
	}
	v, err := parse(b)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return v
}

// decrypted decrypts e, and rereads the plaintext.
func decrypted[T marshaler](t *testing.T, what string, key enctype.Key, usage enctype.Usage, e EncryptedData, parse func([]byte) (T, error)) T {
	t.Helper()
	plain, err := key.Decrypt(usage, e.Cipher)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return reread(t, what, plain, parse)
}

func TestTranscripts(t *testing.T) {
	for _, scenario := range vectors.Transcripts(t) {
		for i, exchange := range scenario.Exchanges {
			t.Run(fmt.Sprintf("%s/%d", scenario.Name, i), func(t *testing.T) {
				request := reread(t, "request", exchange.Request, ParseKDCReq)
				checkRequest(t, request, &exchange.Expect)
				reply := []byte(exchange.Reply)
				if TypeOf(reply) == KRB_ERROR {
					checkError(t, reread(t, "KRB-ERROR", reply, ParseKRBError), &exchange.Expect)
				} else {
					checkReply(t, reread(t, "reply", reply, ParseKDCRep), &exchange.Expect)
				}
			})
		}
	}
}

func checkRequest(t *testing.T, r *KDCReq, expect *vectors.Expect) {
	want := expect.Request
	equal(t, "kdc-options", fmt.Sprintf("%08x", uint32(r.Body.KDCOptions)), want.KDCOptions)
	if want.CName != nil {
		equal(t, "cname", r.Body.CName, nameOf(*want.CName))
	} else if !r.Body.CName.IsZero() {
		t.Errorf("cname is %v", r.Body.CName)
	}
	equal(t, "realm", r.Body.Realm, want.Realm)
	equal(t, "sname", r.Body.SName, nameOf(want.SName))
	equal(t, "till", r.Body.Till, want.Till.Time)
	equal(t, "nonce", r.Body.Nonce, want.Nonce)
	var etypes []int32
	for _, id := range r.Body.EType {
		etypes = append(etypes, int32(id))
	}
	equal(t, "etype", etypes, want.ETypes)
	equal(t, "padata", r.PAData.types(), want.PADataTypes)

	if expect.PAEncTimestamp != nil && expect.ClientKey != nil {
		var stamp struct {
			PATimestamp vectors.Time
			PAUSec      int32
		}
		must.Do(t, json.Unmarshal(expect.PAEncTimestamp, &stamp))
		value, _ := r.PAData.Find(PA_ENC_TIMESTAMP)
		sealed := reread(t, "PA-ENC-TIMESTAMP", value, ParseEncryptedData)
		ts := decrypted(t, "PA-ENC-TS-ENC", keyOf(t, *expect.ClientKey), enctype.KEY_USAGE_AS_REQ_PA_ENC_TIMESTAMP, *sealed, ParsePAEncTSEnc)
		equal(t, "PA-ENC-TS-ENC", *ts, PAEncTSEnc{stamp.PATimestamp.Time, stamp.PAUSec})
	}
	if expect.PATGSReq != nil {
		checkTGSReq(t, r, expect.PATGSReq)
	}
	if expect.FASTRequest != nil {
		checkFastRequest(t, r, expect)
	}
}

func checkTGSReq(t *testing.T, r *KDCReq, want *vectors.TGSReq) {
	value, _ := r.PAData.Find(PA_TGS_REQ)
	apReq := reread(t, "AP-REQ", value, ParseAPReq)
	a := decrypted(t, "Authenticator", keyOf(t, want.TicketSessionKey), enctype.KEY_USAGE_TGS_REQ_AUTHENTICATOR, apReq.Authenticator, ParseAuthenticator)
	expected := want.Authenticator
	equal(t, "authenticator's crealm", a.CRealm, expected.CRealm)
	equal(t, "authenticator's cname", a.CName, nameOf(expected.CName))
	equal(t, "authenticator's cusec", a.CUSec, expected.CUSec)
	equal(t, "authenticator's ctime", a.CTime, expected.CTime.Time)
	equal(t, "authenticator's cksum", *a.Cksum, checksumOf(expected.Cksum))
	equal(t, "authenticator's subkey", a.Subkey, keyOf(t, expected.Subkey))
	// The checksum covers the body as it was sent, which is what Marshal repeats.
	if err := keyOf(t, want.TicketSessionKey).VerifyChecksum(a.Cksum.Type, enctype.KEY_USAGE_TGS_REQ_CHECKSUM, r.Body.Marshal(), a.Cksum.Value); err != nil {
		t.Errorf("checksum of the body: %v", err)
	}
}

func checkFastRequest(t *testing.T, r *KDCReq, expect *vectors.Expect) {
	want := expect.FASTRequest
	armorKey := keyOf(t, *expect.ArmorKey)
	value, _ := r.PAData.Find(PA_FX_FAST)
	armored := reread(t, "PA-FX-FAST-REQUEST", value, ParseKrbFastArmoredReq)
	equal(t, "req-checksum", int32(armored.ReqChecksum.Type), want.ChecksumType)
	covered := r.Body.Marshal()
	if expect.PATGSReq != nil {
		covered, _ = r.PAData.Find(PA_TGS_REQ)
	}
	if err := armorKey.VerifyChecksum(armored.ReqChecksum.Type, enctype.KEY_USAGE_FAST_REQ_CHKSUM, covered, armored.ReqChecksum.Value); err != nil {
		t.Errorf("req-checksum: %v", err)
	}
	if armor := expect.ArmorAPReq; armor != nil {
		apReq := reread(t, "armor", armored.Armor.ArmorValue, ParseAPReq)
		a := decrypted(t, "armor's Authenticator", keyOf(t, armor.TicketSessionKey), enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, apReq.Authenticator, ParseAuthenticator)
		equal(t, "armor's subkey", a.Subkey, keyOf(t, armor.Subkey))
	} else if armored.Armor != nil {
		t.Errorf("armor is %v", armored.Armor)
	}
	inner := decrypted(t, "KrbFastReq", armorKey, enctype.KEY_USAGE_FAST_ENC, armored.EncFastReq, ParseKrbFastReq)
	equal(t, "fast-options", fmt.Sprintf("%08x", uint32(inner.FastOptions)), want.Options)
	if want.InnerPAData != nil {
		equal(t, "inner padata", inner.PAData, paDataOf(want.InnerPAData))
	}
	equal(t, "inner body", inner.ReqBody.Marshal(), []byte(want.InnerReqBody))
	equal(t, "inner nonce", inner.ReqBody.Nonce, want.InnerNonce)
}

func checkError(t *testing.T, e *KRBError, expect *vectors.Expect) {
	checkErrorFields(t, e, expect.KRBError)
	data := e.Data()
	if data.Err != nil {
		t.Errorf("e-data: %v", data.Err)
	}
	if expect.KRBError.MethodData != nil {
		equal(t, "METHOD-DATA", data.PAData, paDataOf(expect.KRBError.MethodData))
	}
	if value, ok := data.PAData.Find(PA_ETYPE_INFO2); ok {
		reread(t, "ETYPE-INFO2", value, ParseETypeInfo2)
	}
	if expect.FASTResponse != nil {
		checkFastResponse(t, data.PAData, expect)
	}
}

func checkErrorFields(t *testing.T, e *KRBError, want *vectors.Error) {
	equal(t, "stime", e.STime, want.STime.Time)
	equal(t, "susec", e.SUSec, want.SUSec)
	equal(t, "error-code", e.Code(), ErrorCode(want.ErrorCode))
	equal(t, "realm", e.Realm, want.Realm)
	equal(t, "sname", e.SName, nameOf(want.SName))
	equal(t, "crealm", e.CRealm, want.CRealm)
	if want.CName != nil {
		equal(t, "cname", e.CName, nameOf(*want.CName))
	}
	equal(t, "e-text", e.EText, want.EText)
	equal(t, "server time", e.ServerTime(), e.STime.Add(time.Duration(want.SUSec)*time.Microsecond))
	if !strings.HasPrefix(e.Error(), e.Code().String()) {
		t.Errorf("Error() is %q", e.Error())
	}
}

func checkFastResponse(t *testing.T, padata MethodData, expect *vectors.Expect) {
	want := expect.FASTResponse
	value, _ := padata.Find(PA_FX_FAST)
	armored := reread(t, "PA-FX-FAST-REPLY", value, ParseKrbFastArmoredRep)
	r := decrypted(t, "KrbFastResponse", keyOf(t, *expect.ArmorKey), enctype.KEY_USAGE_FAST_REP, armored.EncFastRep, ParseKrbFastResponse)
	equal(t, "nonce", r.Nonce, want.Nonce)
	if want.PAData != nil {
		equal(t, "padata", r.PAData, paDataOf(want.PAData))
	}
	if want.StrengthenKey != nil {
		equal(t, "strengthen-key", r.StrengthenKey, keyOf(t, *want.StrengthenKey))
	} else if !r.StrengthenKey.IsZero() {
		t.Error("there is a strengthen-key")
	}
	if f := want.Finished; f != nil {
		equal(t, "finished", *r.Finished, KrbFastFinished{
			f.Timestamp.Time, f.USec, f.CRealm, nameOf(f.CName), checksumOf(f.TicketChecksum),
		})
	} else if r.Finished != nil {
		t.Errorf("finished is %+v", r.Finished)
	}
	if want.PAFXError != nil {
		value, _ := r.PAData.Find(PA_FX_ERROR)
		checkErrorFields(t, reread(t, "PA-FX-ERROR", value, ParseKRBError), want.PAFXError)
	}
}

func checkReply(t *testing.T, r *KDCRep, expect *vectors.Expect) {
	want := expect.Reply
	equal(t, "msg-type", r.MsgType, MsgType(want.MsgType))
	equal(t, "crealm", r.CRealm, want.CRealm)
	equal(t, "cname", r.CName, nameOf(want.CName))
	equal(t, "padata", r.PAData.types(), want.PADataTypes)
	if value, ok := r.PAData.Find(PA_ETYPE_INFO2); ok && expect.ETypeInfo2 != nil {
		info := reread(t, "ETYPE-INFO2", value, ParseETypeInfo2)
		for i, e := range expect.ETypeInfo2 {
			equal(t, "ETYPE-INFO2 entry", info[i], ETypeInfo2Entry{EType: enctype.ID(e.EType), Salt: e.Salt, HasSalt: true})
		}
	}
	part := decrypted(t, "EncKDCRepPart", keyOf(t, *expect.ReplyKey), enctype.Usage(expect.ReplyKey.Usage), r.EncPart, ParseEncKDCRepPart)
	checkEncPart(t, part, &want.EncPart)
	checkTicket(t, &r.Ticket, expect.Ticket)
	if expect.FASTResponse != nil {
		checkFastResponse(t, r.PAData, expect)
	}

	cred := NewCredential(r, part)
	if !bytes.Contains(r.Marshal(), cred.Ticket) || cred.Client.Realm != want.CRealm || !cred.Key.Equal(part.Key) {
		t.Errorf("credential is %v", cred)
	}
}

func checkEncPart(t *testing.T, part *EncKDCRepPart, want *vectors.EncPart) {
	equal(t, "tag", part.Tag, want.App)
	equal(t, "key", part.Key, keyOf(t, want.Key))
	equal(t, "nonce", part.Nonce, want.Nonce)
	equal(t, "flags", fmt.Sprintf("%08x", uint32(part.Flags)), want.Flags)
	equal(t, "srealm", part.SRealm, want.SRealm)
	equal(t, "sname", part.SName, nameOf(want.SName))
	equal(t, "last-req", len(part.LastReq), want.LastReq)
	equal(t, "key-expiration", part.KeyExpiration, want.KeyExpiration.Time)
	equal(t, "authtime", part.AuthTime, want.AuthTime.Time)
	equal(t, "endtime", part.EndTime, want.EndTime.Time)
	equal(t, "renew-till", part.RenewTill, want.RenewTill.Time)
	var padata MethodData
	for _, p := range want.EncryptedPAData {
		padata = append(padata, PAData{PADataType(p.Type), p.Value})
	}
	equal(t, "encrypted-pa-data", part.EncryptedPAData, padata)
	if value, ok := part.EncryptedPAData.Find(PA_REQ_ENC_PA_REP); ok {
		reread(t, "PA-REQ-ENC-PA-REP", value, ParseChecksum)
	}
}

func checkTicket(t *testing.T, ticket *Ticket, want *vectors.Ticket) {
	equal(t, "ticket's realm", ticket.Realm, want.Realm)
	equal(t, "ticket's sname", ticket.SName, nameOf(want.SName))
	equal(t, "ticket's etype", int32(ticket.EncPart.EType), want.EType)
	equal(t, "ticket's kvno", ticket.EncPart.KVNO, want.KVNO)
	if want.EncPart == nil {
		return
	}
	key := keyOf(t, vectors.Key{EType: want.EType, Key: want.ServiceKey})
	part := decrypted(t, "EncTicketPart", key, enctype.KEY_USAGE_TICKET, ticket.EncPart, ParseEncTicketPart)
	expected := want.EncPart
	equal(t, "ticket's flags", fmt.Sprintf("%08x", uint32(part.Flags)), expected.Flags)
	equal(t, "ticket's key", part.Key, keyOf(t, expected.Key))
	equal(t, "ticket's crealm", part.CRealm, expected.CRealm)
	equal(t, "ticket's cname", part.CName, nameOf(expected.CName))
	equal(t, "ticket's authtime", part.AuthTime, expected.AuthTime.Time)
	equal(t, "ticket's endtime", part.EndTime, expected.EndTime.Time)
	equal(t, "ticket's renew-till", part.RenewTill, expected.RenewTill.Time)
	var authData []ADType
	for _, e := range part.AuthorizationData {
		authData = append(authData, e.Type)
		if e.Type == AD_IF_RELEVANT {
			reread(t, "AD-IF-RELEVANT", e.Value, ParseAuthorizationData)
		}
	}
	equal(t, "ticket's authorization-data", len(authData), len(expected.AuthData))
	if len(authData) > 0 && !slices.Contains(authData, AD_IF_RELEVANT) {
		t.Errorf("authorization-data is %v", authData)
	}
}
