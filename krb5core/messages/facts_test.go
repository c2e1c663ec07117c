package messages

import (
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// number looks a number up by its name.
func number[T ~int32](names map[T]string, name string) int64 {
	for n, s := range names {
		if s == name {
			return int64(n)
		}
	}
	return 0
}

func TestProtocolNumbers(t *testing.T) {
	vectors.CheckFacts(t, map[string]map[string]int64{
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
			"PRINCIPAL": int64(KRB_NT_PRINCIPAL), "SRV_INST": int64(KRB_NT_SRV_INST),
			"SRV_HST": int64(KRB_NT_SRV_HST), "SRV_XHST": number(nameTypeNames, "KRB_NT_SRV_XHST"), "UID": number(nameTypeNames, "KRB_NT_UID"),
			"X500_PRINCIPAL": number(nameTypeNames, "KRB_NT_X500_PRINCIPAL"), "SMTP_NAME": number(nameTypeNames, "KRB_NT_SMTP_NAME"),
			"ENTERPRISE_PRINCIPAL": int64(KRB_NT_ENTERPRISE), "WELLKNOWN": int64(KRB_NT_WELLKNOWN),
			"MS_PRINCIPAL": number(nameTypeNames, "KRB_NT_MS_PRINCIPAL"), "MS_PRINCIPAL_AND_ID": number(nameTypeNames, "KRB_NT_MS_PRINCIPAL_AND_ID"),
			"ENT_PRINCIPAL_AND_ID": number(nameTypeNames, "KRB_NT_ENT_PRINCIPAL_AND_ID"),
		},
		"padata_types": {
			"AP_REQ": int64(PA_TGS_REQ), "ENC_TIMESTAMP": int64(PA_ENC_TIMESTAMP), "PW_SALT": int64(PA_PW_SALT),
			"ETYPE_INFO": int64(PA_ETYPE_INFO), "ETYPE_INFO2": int64(PA_ETYPE_INFO2), "PK_AS_REQ": int64(PA_PK_AS_REQ),
			"PK_AS_REP": number(paDataTypeNames, "PA_PK_AS_REP"), "SVR_REFERRAL_INFO": number(paDataTypeNames, "PA_SVR_REFERRAL_INFO"),
			"PAC_REQUEST": number(paDataTypeNames, "PA_PAC_REQUEST"), "FOR_USER": int64(PA_FOR_USER), "S4U_X509_USER": int64(PA_S4U_X509_USER),
			"AS_CHECKSUM": number(paDataTypeNames, "PA_AS_CHECKSUM"), "FX_COOKIE": int64(PA_FX_COOKIE), "FX_FAST": int64(PA_FX_FAST),
			"FX_ERROR": int64(PA_FX_ERROR), "ENCRYPTED_CHALLENGE": int64(PA_ENCRYPTED_CHALLENGE),
			"OTP_CHALLENGE": number(paDataTypeNames, "PA_OTP_CHALLENGE"), "OTP_REQUEST": number(paDataTypeNames, "PA_OTP_REQUEST"),
			"OTP_PIN_CHANGE": number(paDataTypeNames, "PA_OTP_PIN_CHANGE"), "PKINIT_KX": number(paDataTypeNames, "PA_PKINIT_KX"), "AS_FRESHNESS": number(paDataTypeNames, "PA_AS_FRESHNESS"),
			"SPAKE": int64(PA_SPAKE), "REDHAT_IDP_OAUTH2": number(paDataTypeNames, "PA_REDHAT_IDP_OAUTH2"), "REDHAT_PASSKEY": number(paDataTypeNames, "PA_REDHAT_PASSKEY"),
			"PAC_OPTIONS": int64(PA_PAC_OPTIONS), "AUTHENTICATION_SET": number(paDataTypeNames, "PA_AUTHENTICATION_SET"),
			"AUTH_SET_SELECTED": number(paDataTypeNames, "PA_AUTH_SET_SELECTED"), "REQ_ENC_PA_REP": int64(PA_REQ_ENC_PA_REP),
			"SUPPORTED_ENCTYPES": number(paDataTypeNames, "PA_SUPPORTED_ETYPES"),
		},
		"authdata_types": {
			"IF_RELEVANT": int64(AD_IF_RELEVANT),

			"WIN2K_PAC": int64(AD_WIN2K_PAC),
			"FX_ARMOR":  int64(AD_FX_FAST_ARMOR),

			"AD_AUTH_DATA_AP_OPTIONS": int64(AD_AUTH_DATA_AP_OPTIONS),
		},
		"address_types": {"INET": int64(ADDRTYPE_IPV4), "INET6": int64(ADDRTYPE_IPV6), "NETBIOS": int64(ADDRTYPE_NETBIOS)},
		"kdc_options": {
			"FORWARDABLE": int64(KDC_OPT_FORWARDABLE), "FORWARDED": int64(KDC_OPT_FORWARDED), "PROXIABLE": int64(KDC_OPT_PROXIABLE),
			"PROXY": int64(KDC_OPT_PROXY), "POSTDATED": int64(KDC_OPT_POSTDATED),
			"RENEWABLE": int64(KDC_OPT_RENEWABLE), "CNAME_IN_ADDL_TKT": int64(KDC_OPT_CNAME_IN_ADDL_TKT),
			"CANONICALIZE": int64(KDC_OPT_CANONICALIZE), "REQUEST_ANONYMOUS": int64(KDC_OPT_REQUEST_ANONYMOUS),
			"DISABLE_TRANSITED_CHECK": int64(KDC_OPT_DISABLE_TRANSITED_CHECK), "RENEWABLE_OK": int64(KDC_OPT_RENEWABLE_OK),
			"ENC_TKT_IN_SKEY": int64(KDC_OPT_ENC_TKT_IN_SKEY), "RENEW": int64(KDC_OPT_RENEW), "VALIDATE": int64(KDC_OPT_VALIDATE),
		},
		"ticket_flags": {
			"FORWARDABLE": int64(TKT_FLG_FORWARDABLE), "FORWARDED": int64(TKT_FLG_FORWARDED), "PROXIABLE": int64(TKT_FLG_PROXIABLE),
			"POSTDATED": int64(TKT_FLG_POSTDATED),
			"INVALID":   int64(TKT_FLG_INVALID), "RENEWABLE": int64(TKT_FLG_RENEWABLE), "INITIAL": int64(TKT_FLG_INITIAL),
			"PRE_AUTH": int64(TKT_FLG_PRE_AUTHENT), "HW_AUTH": int64(TKT_FLG_HW_AUTHENT),
			"TRANSIT_POLICY_CHECKED": int64(TKT_FLG_TRANSITED_POLICY_CHECKED), "OK_AS_DELEGATE": int64(TKT_FLG_OK_AS_DELEGATE),
			"ENC_PA_REP": int64(TKT_FLG_ENC_PA_REP), "ANONYMOUS": int64(TKT_FLG_ANONYMOUS),
		},
		"ap_options": {"USE_SESSION_KEY": int64(AP_OPTS_USE_SESSION_KEY), "MUTUAL_REQUIRED": int64(AP_OPTS_MUTUAL_REQUIRED)},
	})
}

// What is captured is held by the tests of package exchange, which writes it.
func TestS4U_Encodings(t *testing.T) {
	var file struct {
		Facts struct {
			RBCD string `json:"pa_pac_options_rbcd_der"`
		}
		Computed []struct {
			NameType  NameType `json:"name_type"`
			Name      []string
			Realm     string
			Package   string `json:"auth_package"`
			ByteArray string `json:"s4u_byte_array"`
		} `json:"pa_for_user"`
	}
	vectors.Load(t, "ms-sfu.json", &file)
	for _, v := range file.Computed {
		p := PAForUser{UserName: PrincipalName{v.NameType, v.Name}, UserRealm: v.Realm, AuthPackage: v.Package}
		equal(t, "checksum's input", p.ChecksumInput(), unhex(v.ByteArray))
	}
	equal(t, "PA-PAC-OPTIONS", PAC_OPTIONS_RESOURCE_BASED_CONSTRAINED_DELEGATION.Marshal(), unhex(file.Facts.RBCD))
}
