package vectors

import (
	"encoding/json"
	"testing"
	"time"
)

// The shapes of mit-transcripts.json: what an MIT client and KDC said to each other, and with which
// keys. Numbers are plain, so that the packages that declare their types can use these in tests.
type (
	Scenario struct {
		Name      string
		Exchanges []Exchange
	}
	Exchange struct {
		Kind           string
		Request, Reply Hex
		Expect         Expect
	}
	Expect struct {
		Request        Request
		KRBError       *Error          `json:"krb_error"`
		PAEncTimestamp json.RawMessage `json:"pa_enc_timestamp"`
		ETypeInfo2     []struct {
			EType int32
			Salt  string
		} `json:"etype_info2"`
		ClientKey  *Key `json:"client_key"`
		ReplyKey   *Key `json:"reply_key"`
		Reply      *Reply
		Ticket     *Ticket
		PATGSReq   *TGSReq `json:"pa_tgs_req"`
		ArmorAPReq *struct {
			TicketSessionKey Key `json:"ticket_session_key"`
			Subkey           Key
		} `json:"armor_ap_req"`
		ArmorKey     *Key          `json:"armor_key"`
		FASTRequest  *FASTRequest  `json:"fast_request"`
		FASTResponse *FASTResponse `json:"fast_response"`
	}
	Key struct {
		EType    int32
		Key      Hex
		Usage    uint32
		Password string
	}
	Name struct {
		Type int32
		Name []string
	}
	Checksum struct {
		Type  int32
		Value Hex
	}
	Request struct {
		KDCOptions  string `json:"kdc_options"`
		CName       *Name
		Realm       string
		SName       Name
		Till        Time
		Nonce       uint32
		ETypes      []int32
		PADataTypes []int32 `json:"padata_types"`
	}
	Error struct {
		STime      Time
		SUSec      int32
		ErrorCode  int32 `json:"error_code"`
		Realm      string
		SName      Name
		CRealm     string
		CName      *Name
		EText      string   `json:"e_text"`
		MethodData []PAData `json:"method_data"`
	}
	Reply struct {
		MsgType     int32 `json:"msg_type"`
		CRealm      string
		CName       Name
		EncPart     EncPart `json:"enc_part"`
		PADataTypes []int32 `json:"padata_types"`
	}
	EncPart struct {
		App               uint8
		Key               Key
		Nonce             uint32
		Flags             string
		KeyExpiration     Time `json:"key_expiration"`
		SRealm            string
		SName             Name
		LastReq           int
		AuthTime, EndTime Time
		RenewTill         Time       `json:"renew_till"`
		EncryptedPAData   []Checksum `json:"encrypted_padata"` // likewise a type and a value
	}
	Ticket struct {
		Realm      string
		SName      Name
		EType      int32
		KVNO       uint32
		ServiceKey Hex `json:"service_key"`
		EncPart    *struct {
			Flags             string
			Key               Key
			CRealm            string
			CName             Name
			AuthTime, EndTime Time
			RenewTill         Time `json:"renew_till"`
			AuthData          []any
		} `json:"enc_part"`
	}
	TGSReq struct {
		TicketSessionKey Key `json:"ticket_session_key"`
		Authenticator    struct {
			CRealm string
			CName  Name
			CUSec  int32
			CTime  Time
			Cksum  Checksum
			Subkey Key
		}
	}
	FASTRequest struct {
		ChecksumType int32 `json:"checksum_type"`
		Options      string
		InnerPAData  []PAData `json:"inner_padata"`
		InnerReqBody Hex      `json:"inner_req_body"`
		InnerNonce   uint32   `json:"inner_nonce"`
	}
	FASTResponse struct {
		PAData        []PAData
		Nonce         uint32
		StrengthenKey *Key `json:"strengthen_key"`
		Finished      *struct {
			Timestamp      Time
			USec           int32
			CRealm         string
			CName          Name
			TicketChecksum Checksum `json:"ticket_checksum"`
		}
		PAFXError *Error `json:"pa_fx_error"`
	}
)

// Transcripts reads mit-transcripts.json.
func Transcripts(t testing.TB) []Scenario {
	t.Helper()
	var file struct{ Scenarios []Scenario }
	Load(t, "mit-transcripts.json", &file)
	if len(file.Scenarios) == 0 {
		t.Fatal("no transcripts")
	}
	return file.Scenarios
}

// PAData is an element that a file holds as [type, "hex"].
type PAData struct {
	Type  int32
	Value Hex
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *PAData) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&p.Type, &p.Value})
}

// Time is a KerberosTime; zero where a file has none.
type Time struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (t *Time) UnmarshalJSON(text []byte) error {
	var s string
	err := json.Unmarshal(text, &s)
	if err == nil && s != "" {
		t.Time, err = time.Parse("20060102150405Z", s)
	}
	return err
}
