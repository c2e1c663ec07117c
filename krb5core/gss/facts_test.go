package gss

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

func TestRFC4121_Numbers(t *testing.T) {
	var file struct {
		GSS struct {
			TokenIDs map[string]string `json:"token_ids"`
			Flags    map[string]Flags
			APReq    enctype.Usage `json:"ap_req_authenticator_usage"`
			APRep    enctype.Usage `json:"ap_rep_usage"`
		}
	}
	vectors.Load(t, "protocol-facts.json", &file)
	for name, flag := range map[string]Flags{
		"DELEG": GSS_C_DELEG_FLAG, "MUTUAL": GSS_C_MUTUAL_FLAG, "REPLAY": GSS_C_REPLAY_FLAG, "SEQUENCE": GSS_C_SEQUENCE_FLAG,
		"CONF": GSS_C_CONF_FLAG, "INTEG": GSS_C_INTEG_FLAG, "DCE_STYLE": GSS_C_DCE_STYLE, "IDENTIFY": GSS_C_IDENTIFY_FLAG,
		"EXTENDED_ERROR": GSS_C_EXTENDED_ERROR_FLAG,
	} {
		if want := file.GSS.Flags[name]; flag != want {
			t.Errorf("%s is %d, want %d", name, flag, want)
		}
	}
	for name, id := range map[string]TokenID{"AP-REQ": TOK_AP_REQ, "AP-REP": TOK_AP_REP, "KRB-ERROR": TOK_KRB_ERROR} {
		if got, want := fmt.Sprintf("%04x", uint16(id)), file.GSS.TokenIDs[name]; got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if file.GSS.APReq != enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR || file.GSS.APRep != enctype.KEY_USAGE_AP_REP {
		t.Errorf("usages %d and %d", enctype.KEY_USAGE_AP_REQ_AUTHENTICATOR, enctype.KEY_USAGE_AP_REP)
	}
}

func TestChannelBindings_Hash(t *testing.T) {
	var file struct {
		NoBinding vectors.Hex `json:"no_binding_bnd"`
		Fixed     []struct {
			AddrType        int         `json:"initiator_addrtype"`
			ApplicationData vectors.Hex `json:"application_data"`
			Bnd             vectors.Hex `json:"gss_bnd_md5"`
		}
	}
	vectors.Load(t, "rfc5929.json", &file)
	if none := (ChannelBindings{}); !bytes.Equal(none[:], file.NoBinding) {
		t.Errorf("no bindings are %x, want %x", none, file.NoBinding)
	}
	compared := 0
	for _, v := range file.Fixed {
		if v.AddrType != 0 {
			continue // bindings to addresses, which we never make
		}
		compared++
		if got, err := NewChannelBindings(v.ApplicationData); err != nil || !bytes.Equal(got[:], v.Bnd) {
			t.Errorf("%x: %x %v, want %x", v.ApplicationData, got, err, v.Bnd)
		}
	}
	if compared == 0 {
		t.Error("nothing to compare")
	}
}
