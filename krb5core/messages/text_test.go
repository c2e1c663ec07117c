package messages

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestNoTextOrJSONShowsAKey(t *testing.T) {
	secret := sessionKey.Bytes()
	shows := []string{
		hex.EncodeToString(secret)[:16], strings.ToUpper(hex.EncodeToString(secret))[:16], string(secret[:8]),
		"0, 1, 2, 3", "0 1 2 3", "0x0, 0x1, 0x2", "AAECAwQF",
	}
	cred := &Credential{Client: Principal{alice, realm}, Service: Principal{web, realm}, Key: sessionKey, EndTime: time2}
	for _, v := range []any{
		cred, *cred, &EncKDCRepPart{Key: sessionKey},
		EncTicketPart{Key: sessionKey},
		&Authenticator{Subkey: sessionKey},
		&EncAPRepPart{Subkey: sessionKey},
		EncKrbCredPart{TicketInfo: []KrbCredInfo{{Key: sessionKey}}},
		cred.CredInfo(),
		&KrbFastResponse{StrengthenKey: sessionKey},
	} {
		var texts []string
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
			texts = append(texts, fmt.Sprintf(verb, v))
		}
		if b, err := json.Marshal(v); err == nil {
			texts = append(texts, string(b))
		}
		texts = append(texts, slog.AnyValue(v).String())
		for _, text := range texts {
			for _, s := range shows {
				if strings.Contains(text, s) {
					t.Errorf("%T shows its key: %s", v, text)
				}
			}
		}
	}
	want := "ticket of alice@EXAMPLE.COM for HTTP/web.example.com@EXAMPLE.COM (aes256-cts-hmac-sha1-96, until 2026-11-20T15:52:49Z)"
	if got := cred.String(); got != want {
		t.Errorf("credential: %s", got)
	}
}

func TestFlagsAreWrittenByName(t *testing.T) {
	for _, test := range []struct {
		flags fmt.Stringer
		want  string
	}{
		{KDC_OPT_FORWARDABLE | KDC_OPT_CANONICALIZE | KDC_OPT_RENEWABLE_OK, "forwardable,canonicalize,renewable-ok"},
		{TKT_FLG_INITIAL | TKT_FLG_PRE_AUTHENT | TKT_FLG_ENC_PA_REP | 4, "initial,pre-authent,enc-pa-rep,bit-29"},
		{AP_OPTS_MUTUAL_REQUIRED, "mutual-required"},
		{PAC_OPTIONS_CLAIMS | PAC_OPTIONS_RESOURCE_BASED_CONSTRAINED_DELEGATION, "claims,resource-based-constrained-delegation"},
		{KDCOptions(0), ""},
	} {
		if got := test.flags.String(); got != test.want {
			t.Errorf("%T: %q, not %q", test.flags, got, test.want)
		}
	}
}

func TestUnnamedNumbers(t *testing.T) {
	for got, want := range map[string]string{
		KRB_AS_REQ.String(): "KRB_AS_REQ", MsgType(99).String(): "99",
		KRB_NT_ENTERPRISE.String(): "KRB_NT_ENTERPRISE", NameType(99).String(): "99",
		PA_FX_FAST.String(): "PA_FX_FAST", PADataType(-5).String(): "-5",
	} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

func TestHostAddresses(t *testing.T) {
	for want, a := range map[string]HostAddress{
		"192.0.2.1": addr4, "2001:db8::1": addr6, "20:4142": {ADDRTYPE_NETBIOS, []byte("AB")}, "2:01": {ADDRTYPE_IPV4, []byte{1}},
	} {
		if got := a.String(); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
