package messages

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// numbers reads a section of protocol-facts.json, whose values are numbers or strings of hex.
func numbers(t *testing.T, section string) map[string]int64 {
	var facts map[string]any
	readVectors(t, "protocol-facts.json", &facts)
	m := make(map[string]int64)
	for name, v := range facts[section].(map[string]any) {
		n, err := strconv.ParseInt(strings.TrimSuffix(fmt.Sprint(v), ".0"), 0, 64)
		if err != nil {
			t.Fatalf("%s %s: %v", section, name, err)
		}
		m[name] = n
	}
	return m
}

func TestNumbersAreThoseOfTheProtocol(t *testing.T) {
	for section, ours := range map[string]map[string]int64{
		"msg_types": {
			"AS-REQ": int64(KRB_AS_REQ), "AS-REP": int64(KRB_AS_REP), "TGS-REQ": int64(KRB_TGS_REQ), "TGS-REP": int64(KRB_TGS_REP),
			"AP-REQ": int64(KRB_AP_REQ), "AP-REP": int64(KRB_AP_REP), "KRB-SAFE": int64(KRB_SAFE), "KRB-PRIV": int64(KRB_PRIV),
			"KRB-CRED": int64(KRB_CRED), "KRB-ERROR": int64(KRB_ERROR),
		},
		"application_tags": {
			"Ticket": tagTicket, "Authenticator": tagAuthenticator, "EncTicketPart": tagEncTicketPart,
			"EncASRepPart": EncASRepPartTag, "EncTGSRepPart": EncTGSRepPartTag, "EncAPRepPart": tagEncAPRepPart,
			"EncKrbCredPart": tagEncKrbCredPart,
		},
		"name_types": {
			"UNKNOWN": int64(KRB_NT_UNKNOWN), "PRINCIPAL": int64(KRB_NT_PRINCIPAL), "SRV_INST": int64(KRB_NT_SRV_INST),
			"SRV_HST": int64(KRB_NT_SRV_HST), "SRV_XHST": int64(KRB_NT_SRV_XHST), "UID": int64(KRB_NT_UID),
			"X500_PRINCIPAL": int64(KRB_NT_X500_PRINCIPAL), "SMTP_NAME": int64(KRB_NT_SMTP_NAME),
			"ENTERPRISE_PRINCIPAL": int64(KRB_NT_ENTERPRISE), "WELLKNOWN": int64(KRB_NT_WELLKNOWN),
			"MS_PRINCIPAL": int64(KRB_NT_MS_PRINCIPAL), "MS_PRINCIPAL_AND_ID": int64(KRB_NT_MS_PRINCIPAL_AND_ID),
			"ENT_PRINCIPAL_AND_ID": int64(KRB_NT_ENT_PRINCIPAL_AND_ID),
		},
		"padata_types": {
			"AP_REQ": int64(PA_TGS_REQ), "ENC_TIMESTAMP": int64(PA_ENC_TIMESTAMP), "PW_SALT": int64(PA_PW_SALT),
			"ETYPE_INFO": int64(PA_ETYPE_INFO), "ETYPE_INFO2": int64(PA_ETYPE_INFO2), "PK_AS_REQ": int64(PA_PK_AS_REQ),
			"PK_AS_REP": int64(PA_PK_AS_REP), "SVR_REFERRAL_INFO": int64(PA_SVR_REFERRAL_INFO),
			"PAC_REQUEST": int64(PA_PAC_REQUEST), "FOR_USER": int64(PA_FOR_USER), "S4U_X509_USER": int64(PA_S4U_X509_USER),
			"AS_CHECKSUM": int64(PA_AS_CHECKSUM), "FX_COOKIE": int64(PA_FX_COOKIE), "FX_FAST": int64(PA_FX_FAST),
			"FX_ERROR": int64(PA_FX_ERROR), "ENCRYPTED_CHALLENGE": int64(PA_ENCRYPTED_CHALLENGE),
			"OTP_CHALLENGE": int64(PA_OTP_CHALLENGE), "OTP_REQUEST": int64(PA_OTP_REQUEST),
			"OTP_PIN_CHANGE": int64(PA_OTP_PIN_CHANGE), "PKINIT_KX": int64(PA_PKINIT_KX), "AS_FRESHNESS": int64(PA_AS_FRESHNESS),
			"SPAKE": int64(PA_SPAKE), "REDHAT_IDP_OAUTH2": int64(PA_REDHAT_IDP_OAUTH2), "REDHAT_PASSKEY": int64(PA_REDHAT_PASSKEY),
			"PAC_OPTIONS": int64(PA_PAC_OPTIONS), "AUTHENTICATION_SET": int64(PA_AUTHENTICATION_SET),
			"AUTH_SET_SELECTED": int64(PA_AUTH_SET_SELECTED), "REQ_ENC_PA_REP": int64(PA_REQ_ENC_PA_REP),
			"SUPPORTED_ENCTYPES": int64(PA_SUPPORTED_ETYPES),
		},
		"authdata_types": {
			"IF_RELEVANT": int64(AD_IF_RELEVANT), "KDC_ISSUED": int64(AD_KDC_ISSUED), "AND_OR": int64(AD_AND_OR),
			"MANDATORY_FOR_KDC": int64(AD_MANDATORY_FOR_KDC), "INITIAL_VERIFIED_CAS": int64(AD_INITIAL_VERIFIED_CAS),
			"CAMMAC": int64(AD_CAMMAC), "WIN2K_PAC": int64(AD_WIN2K_PAC), "ETYPE_NEGOTIATION": int64(AD_ETYPE_NEGOTIATION),
			"FX_ARMOR": int64(AD_FX_FAST_ARMOR), "AUTH_INDICATOR": int64(AD_AUTHENTICATION_INDICATOR),
			"KERB_AUTH_DATA_TOKEN_RESTRICTIONS": int64(KERB_AUTH_DATA_TOKEN_RESTRICTIONS), "KERB_LOCAL": int64(KERB_LOCAL),
			"AD_AUTH_DATA_AP_OPTIONS": int64(AD_AUTH_DATA_AP_OPTIONS), "KERB_AUTH_DATA_CLIENT_TARGET": int64(KERB_AUTH_DATA_CLIENT_TARGET),
		},
		"address_types": {"INET": int64(ADDRTYPE_IPV4), "INET6": int64(ADDRTYPE_IPV6), "NETBIOS": int64(ADDRTYPE_NETBIOS)},
		"kdc_options": {
			"FORWARDABLE": int64(KDC_OPT_FORWARDABLE), "FORWARDED": int64(KDC_OPT_FORWARDED), "PROXIABLE": int64(KDC_OPT_PROXIABLE),
			"PROXY": int64(KDC_OPT_PROXY), "ALLOW_POSTDATE": int64(KDC_OPT_ALLOW_POSTDATE), "POSTDATED": int64(KDC_OPT_POSTDATED),
			"RENEWABLE": int64(KDC_OPT_RENEWABLE), "CNAME_IN_ADDL_TKT": int64(KDC_OPT_CNAME_IN_ADDL_TKT),
			"CANONICALIZE": int64(KDC_OPT_CANONICALIZE), "REQUEST_ANONYMOUS": int64(KDC_OPT_REQUEST_ANONYMOUS),
			"DISABLE_TRANSITED_CHECK": int64(KDC_OPT_DISABLE_TRANSITED_CHECK), "RENEWABLE_OK": int64(KDC_OPT_RENEWABLE_OK),
			"ENC_TKT_IN_SKEY": int64(KDC_OPT_ENC_TKT_IN_SKEY), "RENEW": int64(KDC_OPT_RENEW), "VALIDATE": int64(KDC_OPT_VALIDATE),
		},
		"ticket_flags": {
			"FORWARDABLE": int64(TKT_FLG_FORWARDABLE), "FORWARDED": int64(TKT_FLG_FORWARDED), "PROXIABLE": int64(TKT_FLG_PROXIABLE),
			"PROXY": int64(TKT_FLG_PROXY), "MAY_POSTDATE": int64(TKT_FLG_MAY_POSTDATE), "POSTDATED": int64(TKT_FLG_POSTDATED),
			"INVALID": int64(TKT_FLG_INVALID), "RENEWABLE": int64(TKT_FLG_RENEWABLE), "INITIAL": int64(TKT_FLG_INITIAL),
			"PRE_AUTH": int64(TKT_FLG_PRE_AUTHENT), "HW_AUTH": int64(TKT_FLG_HW_AUTHENT),
			"TRANSIT_POLICY_CHECKED": int64(TKT_FLG_TRANSITED_POLICY_CHECKED), "OK_AS_DELEGATE": int64(TKT_FLG_OK_AS_DELEGATE),
			"ENC_PA_REP": int64(TKT_FLG_ENC_PA_REP), "ANONYMOUS": int64(TKT_FLG_ANONYMOUS),
		},
		"ap_options": {"USE_SESSION_KEY": int64(AP_OPTS_USE_SESSION_KEY), "MUTUAL_REQUIRED": int64(AP_OPTS_MUTUAL_REQUIRED)},
	} {
		theirs := numbers(t, section)
		for name, got := range ours {
			if want, ok := theirs[name]; !ok || got != want {
				t.Errorf("%s %s is %#x, not %#x", section, name, got, want)
			}
		}
	}
}

func TestS4UStructuresAreThoseOfTheCaptures(t *testing.T) {
	type s4uName struct {
		Type NameType
		Name []string
	}
	var file struct {
		Facts struct {
			RBCD string `json:"pa_pac_options_rbcd_der"`
		}
		ForUser struct {
			Value     string `json:"padata_value"`
			Name      s4uName
			Realm     string
			Package   string `json:"auth_package"`
			ByteArray string `json:"s4u_byte_array"`
			Checksum  string
			Key       transcriptKey `json:"session_key"`
		} `json:"captured_pa_for_user"`
		Computed []struct {
			NameType  NameType `json:"name_type"`
			Name      []string
			Realm     string
			Package   string `json:"auth_package"`
			ByteArray string `json:"s4u_byte_array"`
		} `json:"pa_for_user"`
		Request s4uCapture `json:"captured_pa_s4u_x509_user"`
		Reply   s4uCapture `json:"captured_pa_s4u_x509_user_reply"`
	}
	readVectors(t, "ms-sfu.json", &file)

	captured := reread(t, "PA-FOR-USER", unhex(file.ForUser.Value), ParsePAForUser)
	equal(t, "PA-FOR-USER", *captured, PAForUser{
		PrincipalName{file.ForUser.Name.Type, file.ForUser.Name.Name}, file.ForUser.Realm,
		Checksum{enctype.KERB_CHECKSUM_HMAC_MD5, unhex(file.ForUser.Checksum)}, file.ForUser.Package,
	})
	equal(t, "checksum's input", captured.ChecksumInput(), unhex(file.ForUser.ByteArray))
	for _, v := range file.Computed {
		p := PAForUser{UserName: PrincipalName{v.NameType, v.Name}, UserRealm: v.Realm, AuthPackage: v.Package}
		equal(t, "checksum's input", p.ChecksumInput(), unhex(v.ByteArray))
	}
	for name, c := range map[string]s4uCapture{"request": file.Request, "reply": file.Reply} {
		p := reread(t, "PA-S4U-X509-USER in a "+name, unhex(c.Value), ParsePAS4UX509User)
		equal(t, "nonce", p.UserID.Nonce, 0x73a7f901)
		equal(t, "options", p.UserID.Options, KERB_S4U_OPTIONS_USE_REPLY_KEY_USAGE)
		equal(t, "checksum", p.Checksum, Checksum{c.Type, unhex(c.Checksum)})
		if err := c.Key.key(t).VerifyChecksum(c.Type, c.Usage, p.UserID.Marshal(), p.Checksum.Value); err != nil {
			t.Errorf("checksum of the %s: %v", name, err)
		}
	}
	equal(t, "PA-PAC-OPTIONS", PAC_OPTIONS_RESOURCE_BASED_CONSTRAINED_DELEGATION.Marshal(), unhex(file.Facts.RBCD))
}

type s4uCapture struct {
	Value    string               `json:"padata_value"`
	Type     enctype.ChecksumType `json:"checksum_type"`
	Checksum string
	Usage    enctype.Usage
	Key      transcriptKey
}

func TestFASTElementsAreThoseOfRFC6113(t *testing.T) {
	var file struct {
		Types map[string]PADataType `json:"pa_types"`
	}
	readVectors(t, "rfc6113.json", &file)
	for name, ours := range map[string]PADataType{
		"PA-FX-COOKIE": PA_FX_COOKIE, "PA-AUTHENTICATION-SET": PA_AUTHENTICATION_SET, "PA-AUTH-SET-SELECTED": PA_AUTH_SET_SELECTED,
		"PA-FX-FAST": PA_FX_FAST, "PA-FX-ERROR": PA_FX_ERROR, "PA-ENCRYPTED-CHALLENGE": PA_ENCRYPTED_CHALLENGE,
	} {
		equal(t, name, ours, file.Types[name])
	}
}
