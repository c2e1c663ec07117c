package messages

import (
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

func TestErrorCode_Names(t *testing.T) {
	var file struct {
		Codes []struct {
			Code    ErrorCode
			Name    string
			MITName string `json:"mit_name"`
		}
	}
	vectors.Load(t, "error-codes.json", &file)
	if len(file.Codes) < 70 {
		t.Fatalf("%d codes", len(file.Codes))
	}
	for _, c := range file.Codes {
		// RFC 4556, Section 3.1.3 gave the codes that RFC 4120 reserved for it other names, which
		// MIT has.
		want := c.Name
		if c.Code >= KDC_ERR_CLIENT_NOT_TRUSTED && c.Code <= KDC_ERR_DH_KEY_PARAMETERS_NOT_ACCEPTED {
			want = strings.TrimPrefix(c.MITName, "KRB5")
		}
		if got := c.Code.String(); got != want {
			t.Errorf("code %d is %s, not %s", c.Code, got, want)
		}
		if c.Code.Meaning() == "" {
			t.Errorf("code %d has no meaning", c.Code)
		}
	}
}

func TestErrorCode_Kinds(t *testing.T) {
	for code, want := range map[ErrorCode][2]bool{
		KDC_ERR_PREAUTH_FAILED: {true, true}, KRB_AP_ERR_BAD_INTEGRITY: {true, true}, KDC_ERR_POLICY: {true, false}, 30: {false, false},
	} {
		if got := [2]bool{code.Registered(), code.KeyRefused()}; got != want {
			t.Errorf("%s: registered, key refused: %v, want %v", code, got, want)
		}
	}
}

func TestUnknownErrorCodesAreNumbers(t *testing.T) {
	for code, want := range map[ErrorCode]string{30: "error 30", 127: "error 127", -1: "error -1"} {
		if got := code.String(); got != want || code.Meaning() != "" {
			t.Errorf("code %d is %q, %q", int32(code), got, code.Meaning())
		}
		if got := (&KRBError{ErrorCode: code}).Error(); !strings.HasPrefix(got, want) {
			t.Errorf("the error is %q", got)
		}
	}
}

func TestErrorDataIsReadInEveryForm(t *testing.T) {
	extended := unhex("720000c00000000001000000")
	equal(t, "extended error", ExtendedError(STATUS_ACCOUNT_DISABLED), extended)
	for name, test := range map[string]struct {
		data []byte
		want ErrorData
	}{
		"none":                {nil, ErrorData{}},
		"METHOD-DATA of MIT":  {MethodData{{PA_FX_COOKIE, []byte("MIT")}}.Marshal(), ErrorData{PAData: MethodData{{PA_FX_COOKIE, []byte("MIT")}}}},
		"empty METHOD-DATA":   {empty, ErrorData{PAData: MethodData{}}},
		"METHOD-DATA, a salt": {MethodData{{PA_PW_SALT, []byte("REALM.Calice")}}.Marshal(), ErrorData{PAData: MethodData{{PA_PW_SALT, []byte("REALM.Calice")}}}},
		"METHOD-DATA of Samba": {
			MethodData{{PA_PW_SALT, extended}}.Marshal(),
			ErrorData{PAData: MethodData{{PA_PW_SALT, extended}}, Status: STATUS_ACCOUNT_DISABLED},
		},
		"TYPED-DATA": {TypedData{{TD_REQ_NONCE, []byte{1}}}.Marshal(), ErrorData{PAData: MethodData{{TD_REQ_NONCE, []byte{1}}}}},
		"KERB-ERROR-DATA of Windows": {
			unhex("3015a103020103a20e040c720000c00000000001000000"), ErrorData{Status: STATUS_ACCOUNT_DISABLED},
		},
		"skew recovery":            {unhex("3005a103020102"), ErrorData{}},
		"an unknown type of it":    {unhex("3005a103020109"), ErrorData{}},
		"an extended error, short": {(&KerbErrorData{KERB_ERR_TYPE_EXTENDED, []byte{1, 2, 3}}).Marshal(), ErrorData{}},
	} {
		t.Run(name, func(t *testing.T) {
			e := &KRBError{STime: time0, ErrorCode: KDC_ERR_CLIENT_REVOKED, SName: none, EData: test.data}
			e = must.OK(ParseKRBError(e.Marshal()))(t)
			equal(t, "data", e.Data(), test.want)
		})
	}
}

func TestErrorData_Malformed(t *testing.T) {
	samba := MethodData{{PA_PW_SALT, ExtendedError(STATUS_PASSWORD_MUST_CHANGE)}}.Marshal()
	for _, data := range [][]byte{{0}, []byte("\xff\xfe"), samba[:len(samba)-1], unhex("3080"), unhex("30023000"), unhex("0401aa"), make([]byte, 5000)} {
		e, err := ParseKRBError((&KRBError{STime: time0, ErrorCode: KDC_ERR_KEY_EXPIRED, SName: none, EText: "sorry", EData: data}).Marshal())
		if err != nil {
			t.Fatalf("%x: %v", data, err)
		}
		got := e.Data()
		if got.Err == nil || got.Status != 0 || got.PAData != nil {
			t.Errorf("%x is taken for %+v", data, got)
		}
		want := `KDC_ERR_KEY_EXPIRED (23): the password has expired or must be changed (server says "sorry")`
		if e.Error() != want {
			t.Errorf("%x: %s", data, e.Error())
		}
	}
}

func TestErrorSaysWhatWindowsKnows(t *testing.T) {
	e := &KRBError{ErrorCode: KDC_ERR_CLIENT_REVOKED, EData: (&KerbErrorData{KERB_ERR_TYPE_EXTENDED, ExtendedError(STATUS_ACCOUNT_LOCKED_OUT)}).Marshal()}
	for _, part := range []string{"KDC_ERR_CLIENT_REVOKED (18)", "STATUS_ACCOUNT_LOCKED_OUT", "locked after too many wrong passwords"} {
		if !strings.Contains(e.Error(), part) {
			t.Errorf("%q is not in %q", part, e.Error())
		}
	}
	if got := NTStatus(0xc0001234).String(); got != "NTSTATUS 0xc0001234" {
		t.Errorf("an unknown status is %q", got)
	}
}

func TestErrorTextOfTheNetworkIsQuoted(t *testing.T) {
	e := &KRBError{ErrorCode: KRB_ERR_GENERIC, EText: "a\x1b[31m\nb"}
	if got := e.Error(); strings.ContainsAny(got, "\n\x1b") {
		t.Errorf("%q", got)
	}
}

func TestNTStatusesAreThoseOfTheFacts(t *testing.T) {
	var facts struct {
		MS struct {
			NTStatus map[string]string
		} `json:"ms_kile_error_data"`
	}
	vectors.Load(t, "protocol-facts.json", &facts)
	if len(facts.MS.NTStatus) == 0 {
		t.Fatal("no statuses")
	}
	for number := range facts.MS.NTStatus {
		s := NTStatus(0)
		for _, b := range unhex(number) {
			s = s<<8 | NTStatus(b)
		}
		if s.Meaning() == "" {
			t.Errorf("%s has no meaning", number)
		}
	}
}

func TestMessageTypeIsToldByTheTag(t *testing.T) {
	all := goldens(t)
	for name, want := range map[string]MsgType{
		"KDC-REQ minimal": KRB_AS_REQ, "KDC-REQ full": KRB_TGS_REQ, "KDC-REP minimal": KRB_AS_REP, "KDC-REP full": KRB_TGS_REP,
		"AP-REQ full": KRB_AP_REQ, "AP-REP full": KRB_AP_REP, "KRB-CRED full": KRB_CRED, "KRB-ERROR full": KRB_ERROR,
		"Ticket full": 0, "METHOD-DATA full": 0, "PA-SPAKE support": 0,
	} {
		if got := TypeOf(all[name]); got != want {
			t.Errorf("%s is %s, not %s", name, got, want)
		}
	}
	for _, b := range [][]byte{nil, {}, {0x0a}, {0x4a}, {byte(der.Context(10))}, {0xff}} {
		if got := TypeOf(b); got != 0 {
			t.Errorf("%x is %s", b, got)
		}
	}
}
