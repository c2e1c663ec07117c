package messages

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// The shapes of tests/vectors/mit-transcripts.json: what an MIT client and KDC said to each other, and with which keys.
type (
	transcripts struct {
		Scenarios []struct {
			Name      string
			Exchanges []transcriptExchange
		}
	}
	transcriptExchange struct {
		Kind, Request, Reply string
		Expect               transcriptExpect
	}
	transcriptExpect struct {
		Request        transcriptRequest
		KRBError       *transcriptError `json:"krb_error"`
		PAEncTimestamp json.RawMessage  `json:"pa_enc_timestamp"`
		ETypeInfo2     []struct {
			EType enctype.ID
			Salt  string
		} `json:"etype_info2"`
		ClientKey  *transcriptKey `json:"client_key"`
		ReplyKey   *transcriptKey `json:"reply_key"`
		Reply      *transcriptReply
		Ticket     *transcriptTicket
		PATGSReq   *transcriptTGSReq `json:"pa_tgs_req"`
		ArmorAPReq *struct {
			TicketSessionKey transcriptKey `json:"ticket_session_key"`
			Subkey           transcriptKey
		} `json:"armor_ap_req"`
		ArmorKey     *transcriptKey          `json:"armor_key"`
		FastRequest  *transcriptFastRequest  `json:"fast_request"`
		FastResponse *transcriptFastResponse `json:"fast_response"`
	}
	transcriptKey struct {
		EType enctype.ID
		Key   string
		Usage enctype.Usage
	}
	transcriptName struct {
		Type NameType
		Name []string
	}
	transcriptChecksum struct {
		Type  enctype.ChecksumType
		Value string
	}
	transcriptRequest struct {
		KDCOptions  string `json:"kdc_options"`
		CName       *transcriptName
		Realm       string
		SName       transcriptName
		Till        string
		Nonce       uint32
		ETypes      []enctype.ID
		PADataTypes []PADataType `json:"padata_types"`
	}
	transcriptError struct {
		STime      string
		SUSec      int32
		ErrorCode  ErrorCode `json:"error_code"`
		Realm      string
		SName      transcriptName
		CRealm     string
		CName      *transcriptName
		EText      string              `json:"e_text"`
		MethodData [][]json.RawMessage `json:"method_data"`
	}
	transcriptReply struct {
		MsgType     MsgType `json:"msg_type"`
		CRealm      string
		CName       transcriptName
		EncPart     transcriptEncPart `json:"enc_part"`
		PADataTypes []PADataType      `json:"padata_types"`
	}
	transcriptEncPart struct {
		App               uint8
		Key               transcriptKey
		Nonce             uint32
		Flags             string
		KeyExpiration     string `json:"key_expiration"`
		SRealm            string
		SName             transcriptName
		LastReq           int
		AuthTime, EndTime string
		RenewTill         string `json:"renew_till"`
		EncryptedPAData   []struct {
			Type  PADataType
			Value string
		} `json:"encrypted_padata"`
	}
	transcriptTicket struct {
		Realm      string
		SName      transcriptName
		EType      enctype.ID
		KVNO       uint32
		ServiceKey string `json:"service_key"`
		EncPart    *struct {
			Flags             string
			Key               transcriptKey
			CRealm            string
			CName             transcriptName
			Transited         string
			AuthTime, EndTime string
			RenewTill         string `json:"renew_till"`
			AuthData          [][]json.RawMessage
		} `json:"enc_part"`
	}
	transcriptTGSReq struct {
		TicketSessionKey transcriptKey `json:"ticket_session_key"`
		Authenticator    struct {
			CRealm string
			CName  transcriptName
			CUSec  int32
			CTime  string
			Cksum  transcriptChecksum
			Subkey transcriptKey
		}
	}
	transcriptFastRequest struct {
		ChecksumType enctype.ChecksumType `json:"checksum_type"`
		Options      string
		InnerPAData  [][]json.RawMessage `json:"inner_padata"`
		InnerReqBody string              `json:"inner_req_body"`
		InnerNonce   uint32              `json:"inner_nonce"`
	}
	transcriptFastResponse struct {
		PAData        [][]json.RawMessage
		Nonce         uint32
		StrengthenKey *transcriptKey `json:"strengthen_key"`
		Finished      *struct {
			Timestamp      string
			USec           int32
			CRealm         string
			CName          transcriptName
			TicketChecksum transcriptChecksum `json:"ticket_checksum"`
		}
		PAFXError *transcriptError `json:"pa_fx_error"`
	}
)

func (k transcriptKey) key(t *testing.T) enctype.Key {
	t.Helper()
	key, err := enctype.NewKey(k.EType, unhex(k.Key))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (n transcriptName) principal() PrincipalName { return PrincipalName{n.Type, n.Name} }

func kerberosTime(t *testing.T, s string) time.Time {
	t.Helper()
	if s == "" {
		return time.Time{}
	}
	v, err := time.Parse("20060102150405Z", s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// paDataOf reads a list of [type, "hex"].
func paDataOf(t *testing.T, list [][]json.RawMessage) MethodData {
	t.Helper()
	m := MethodData{}
	for _, pair := range list {
		var p PAData
		var value string
		if err := json.Unmarshal(pair[0], &p.Type); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(pair[1], &value); err != nil {
			t.Fatal(err)
		}
		p.Value = unhex(value)
		m = append(m, p)
	}
	return m
}

func (m MethodData) types() []PADataType {
	var list []PADataType
	for _, p := range m {
		list = append(list, p.Type)
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

// reread parses b, and checks that the fields, the original octets forgotten, are written as b again.
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

func TestTranscriptsAreReadAndWrittenAsTheyAre(t *testing.T) {
	var file transcripts
	readVectors(t, "mit-transcripts.json", &file)
	for _, scenario := range file.Scenarios {
		for i, exchange := range scenario.Exchanges {
			t.Run(fmt.Sprintf("%s/%d", scenario.Name, i), func(t *testing.T) {
				request := reread(t, "request", unhex(exchange.Request), ParseKDCReq)
				checkRequest(t, request, &exchange.Expect)
				reply := unhex(exchange.Reply)
				if TypeOf(reply) == KRB_ERROR {
					checkError(t, reread(t, "KRB-ERROR", reply, ParseKRBError), &exchange.Expect)
				} else {
					checkReply(t, reread(t, "reply", reply, ParseKDCRep), &exchange.Expect)
				}
			})
		}
	}
}

func checkRequest(t *testing.T, r *KDCReq, expect *transcriptExpect) {
	want := expect.Request
	equal(t, "kdc-options", fmt.Sprintf("%08x", uint32(r.Body.KDCOptions)), want.KDCOptions)
	if want.CName != nil {
		equal(t, "cname", r.Body.CName, want.CName.principal())
	} else if !r.Body.CName.IsZero() {
		t.Errorf("cname is %v", r.Body.CName)
	}
	equal(t, "realm", r.Body.Realm, want.Realm)
	equal(t, "sname", r.Body.SName, want.SName.principal())
	equal(t, "till", r.Body.Till, kerberosTime(t, want.Till))
	equal(t, "nonce", r.Body.Nonce, want.Nonce)
	equal(t, "etype", r.Body.EType, want.ETypes)
	equal(t, "padata", r.PAData.types(), want.PADataTypes)

	if expect.PAEncTimestamp != nil && expect.ClientKey != nil {
		var stamp struct {
			PATimestamp string
			PAUSec      int32
		}
		if err := json.Unmarshal(expect.PAEncTimestamp, &stamp); err != nil {
			t.Fatal(err)
		}
		value, _ := r.PAData.Find(PA_ENC_TIMESTAMP)
		sealed := reread(t, "PA-ENC-TIMESTAMP", value, ParseEncryptedData)
		ts := decrypted(t, "PA-ENC-TS-ENC", expect.ClientKey.key(t), enctype.KEY_USAGE_AS_REQ_PA_ENC_TIMESTAMP, *sealed, ParsePAEncTSEnc)
		equal(t, "PA-ENC-TS-ENC", *ts, PAEncTSEnc{kerberosTime(t, stamp.PATimestamp), stamp.PAUSec})
	}
	if expect.PATGSReq != nil {
		checkTGSReq(t, r, expect.PATGSReq)
	}
	if expect.FastRequest != nil {
		checkFastRequest(t, r, expect)
	}
}

func checkTGSReq(t *testing.T, r *KDCReq, want *transcriptTGSReq) {
	value, _ := r.PAData.Find(PA_TGS_REQ)
	apReq := reread(t, "AP-REQ", value, ParseAPReq)
	a := decrypted(t, "Authenticator", want.TicketSessionKey.key(t), enctype.KEY_USAGE_TGS_REQ_AUTHENTICATOR, apReq.Authenticator, ParseAuthenticator)
	expected := want.Authenticator
	equal(t, "authenticator's crealm", a.CRealm, expected.CRealm)
	equal(t, "authenticator's cname", a.CName, expected.CName.principal())
	equal(t, "authenticator's cusec", a.CUSec, expected.CUSec)
	equal(t, "authenticator's ctime", a.CTime, kerberosTime(t, expected.CTime))
	equal(t, "authenticator's cksum", *a.Cksum, Checksum{expected.Cksum.Type, unhex(expected.Cksum.Value)})
	equal(t, "authenticator's subkey", a.Subkey, expected.Subkey.key(t))
	// The checksum covers the body as it was sent, which is what Marshal repeats.
	if err := want.TicketSessionKey.key(t).VerifyChecksum(a.Cksum.Type, enctype.KEY_USAGE_TGS_REQ_CHECKSUM, r.Body.Marshal(), a.Cksum.Value); err != nil {
		t.Errorf("checksum of the body: %v", err)
	}
}

func checkFastRequest(t *testing.T, r *KDCReq, expect *transcriptExpect) {
	want := expect.FastRequest
	armorKey := expect.ArmorKey.key(t)
	value, _ := r.PAData.Find(PA_FX_FAST)
	armored := reread(t, "PA-FX-FAST-REQUEST", value, ParseKrbFastArmoredReq)
	equal(t, "req-checksum", armored.ReqChecksum.Type, want.ChecksumType)
	covered := r.Body.Marshal()
	if expect.PATGSReq != nil {
		covered, _ = r.PAData.Find(PA_TGS_REQ)
	}
	if err := armorKey.VerifyChecksum(armored.ReqChecksum.Type, enctype.KEY_USAGE_FAST_REQ_CHKSUM, covered, armored.ReqChecksum.Value); err != nil {
		t.Errorf("req-checksum: %v", err)
	}
	if armor := expect.ArmorAPReq; armor != nil {
		apReq := reread(t, "armor", armored.Armor.ArmorValue, ParseAPReq)
		a := decrypted(t, "armor's Authenticator", armor.TicketSessionKey.key(t), enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, apReq.Authenticator, ParseAuthenticator)
		equal(t, "armor's subkey", a.Subkey, armor.Subkey.key(t))
	} else if armored.Armor != nil {
		t.Errorf("armor is %v", armored.Armor)
	}
	inner := decrypted(t, "KrbFastReq", armorKey, enctype.KEY_USAGE_FAST_ENC, armored.EncFastReq, ParseKrbFastReq)
	equal(t, "fast-options", fmt.Sprintf("%08x", uint32(inner.FastOptions)), want.Options)
	if want.InnerPAData != nil {
		equal(t, "inner padata", inner.PAData, paDataOf(t, want.InnerPAData))
	}
	equal(t, "inner body", hex.EncodeToString(inner.ReqBody.Marshal()), want.InnerReqBody)
	equal(t, "inner nonce", inner.ReqBody.Nonce, want.InnerNonce)
}

func checkError(t *testing.T, e *KRBError, expect *transcriptExpect) {
	checkErrorFields(t, e, expect.KRBError)
	data := e.Data()
	if data.Err != nil {
		t.Errorf("e-data: %v", data.Err)
	}
	if expect.KRBError.MethodData != nil {
		equal(t, "METHOD-DATA", data.PAData, paDataOf(t, expect.KRBError.MethodData))
	}
	if value, ok := data.PAData.Find(PA_ETYPE_INFO2); ok {
		reread(t, "ETYPE-INFO2", value, ParseETypeInfo2)
	}
	if expect.FastResponse != nil {
		checkFastResponse(t, data.PAData, expect)
	}
}

func checkErrorFields(t *testing.T, e *KRBError, want *transcriptError) {
	equal(t, "stime", e.STime, kerberosTime(t, want.STime))
	equal(t, "susec", e.SUSec, want.SUSec)
	equal(t, "error-code", e.Code(), want.ErrorCode)
	equal(t, "realm", e.Realm, want.Realm)
	equal(t, "sname", e.SName, want.SName.principal())
	equal(t, "crealm", e.CRealm, want.CRealm)
	if want.CName != nil {
		equal(t, "cname", e.CName, want.CName.principal())
	}
	equal(t, "e-text", e.EText, want.EText)
	equal(t, "server time", e.ServerTime(), e.STime.Add(time.Duration(want.SUSec)*time.Microsecond))
	if !strings.HasPrefix(e.Error(), want.ErrorCode.String()) {
		t.Errorf("Error() is %q", e.Error())
	}
}

func checkFastResponse(t *testing.T, padata MethodData, expect *transcriptExpect) {
	want := expect.FastResponse
	value, _ := padata.Find(PA_FX_FAST)
	armored := reread(t, "PA-FX-FAST-REPLY", value, ParseKrbFastArmoredRep)
	r := decrypted(t, "KrbFastResponse", expect.ArmorKey.key(t), enctype.KEY_USAGE_FAST_REP, armored.EncFastRep, ParseKrbFastResponse)
	equal(t, "nonce", r.Nonce, want.Nonce)
	if want.PAData != nil {
		equal(t, "padata", r.PAData, paDataOf(t, want.PAData))
	}
	if want.StrengthenKey != nil {
		equal(t, "strengthen-key", r.StrengthenKey, want.StrengthenKey.key(t))
	} else if !r.StrengthenKey.IsZero() {
		t.Error("there is a strengthen-key")
	}
	if f := want.Finished; f != nil {
		equal(t, "finished", *r.Finished, KrbFastFinished{
			kerberosTime(t, f.Timestamp), f.USec, f.CRealm, f.CName.principal(), Checksum{f.TicketChecksum.Type, unhex(f.TicketChecksum.Value)},
		})
	} else if r.Finished != nil {
		t.Errorf("finished is %+v", r.Finished)
	}
	if want.PAFXError != nil {
		value, _ := r.PAData.Find(PA_FX_ERROR)
		checkErrorFields(t, reread(t, "PA-FX-ERROR", value, ParseKRBError), want.PAFXError)
	}
}

func checkReply(t *testing.T, r *KDCRep, expect *transcriptExpect) {
	want := expect.Reply
	equal(t, "msg-type", r.MsgType, want.MsgType)
	equal(t, "crealm", r.CRealm, want.CRealm)
	equal(t, "cname", r.CName, want.CName.principal())
	equal(t, "padata", r.PAData.types(), want.PADataTypes)
	if value, ok := r.PAData.Find(PA_ETYPE_INFO2); ok && expect.ETypeInfo2 != nil {
		info := reread(t, "ETYPE-INFO2", value, ParseETypeInfo2)
		for i, e := range expect.ETypeInfo2 {
			equal(t, "ETYPE-INFO2 entry", info[i], ETypeInfo2Entry{EType: e.EType, Salt: e.Salt, HasSalt: true})
		}
	}
	part := decrypted(t, "EncKDCRepPart", expect.ReplyKey.key(t), expect.ReplyKey.Usage, r.EncPart, ParseEncKDCRepPart)
	checkEncPart(t, part, &want.EncPart)
	checkTicket(t, &r.Ticket, expect.Ticket)
	if expect.FastResponse != nil {
		checkFastResponse(t, r.PAData, expect)
	}

	cred := NewCredential(r, part)
	if !bytes.Contains(r.Marshal(), cred.Ticket) || cred.Client.Realm != want.CRealm || !cred.Key.Equal(part.Key) {
		t.Errorf("credential is %v", cred)
	}
}

func checkEncPart(t *testing.T, part *EncKDCRepPart, want *transcriptEncPart) {
	equal(t, "tag", part.Tag, want.App)
	equal(t, "key", part.Key, want.Key.key(t))
	equal(t, "nonce", part.Nonce, want.Nonce)
	equal(t, "flags", fmt.Sprintf("%08x", uint32(part.Flags)), want.Flags)
	equal(t, "srealm", part.SRealm, want.SRealm)
	equal(t, "sname", part.SName, want.SName.principal())
	equal(t, "last-req", len(part.LastReq), want.LastReq)
	equal(t, "key-expiration", part.KeyExpiration, kerberosTime(t, want.KeyExpiration))
	equal(t, "authtime", part.AuthTime, kerberosTime(t, want.AuthTime))
	equal(t, "endtime", part.EndTime, kerberosTime(t, want.EndTime))
	equal(t, "renew-till", part.RenewTill, kerberosTime(t, want.RenewTill))
	var padata MethodData
	for _, p := range want.EncryptedPAData {
		padata = append(padata, PAData{p.Type, unhex(p.Value)})
	}
	equal(t, "encrypted-pa-data", part.EncryptedPAData, padata)
	if value, ok := part.EncryptedPAData.Find(PA_REQ_ENC_PA_REP); ok {
		reread(t, "PA-REQ-ENC-PA-REP", value, ParseChecksum)
	}
}

func checkTicket(t *testing.T, ticket *Ticket, want *transcriptTicket) {
	equal(t, "ticket's realm", ticket.Realm, want.Realm)
	equal(t, "ticket's sname", ticket.SName, want.SName.principal())
	equal(t, "ticket's etype", ticket.EncPart.EType, want.EType)
	equal(t, "ticket's kvno", ticket.EncPart.KVNO, want.KVNO)
	if want.EncPart == nil {
		return
	}
	key := transcriptKey{EType: want.EType, Key: want.ServiceKey}
	part := decrypted(t, "EncTicketPart", key.key(t), enctype.KEY_USAGE_TICKET, ticket.EncPart, ParseEncTicketPart)
	expected := want.EncPart
	equal(t, "ticket's flags", fmt.Sprintf("%08x", uint32(part.Flags)), expected.Flags)
	equal(t, "ticket's key", part.Key, expected.Key.key(t))
	equal(t, "ticket's crealm", part.CRealm, expected.CRealm)
	equal(t, "ticket's cname", part.CName, expected.CName.principal())
	equal(t, "ticket's authtime", part.AuthTime, kerberosTime(t, expected.AuthTime))
	equal(t, "ticket's endtime", part.EndTime, kerberosTime(t, expected.EndTime))
	equal(t, "ticket's renew-till", part.RenewTill, kerberosTime(t, expected.RenewTill))
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
