package enctype

import (
	"fmt"
	"strconv"
	"testing"
)

// facts are numbers by the names that protocol-facts.json has for them.
func facts(t *testing.T, section string) map[string]int64 {
	t.Helper()
	var file map[string]any
	load(t, "protocol-facts.json", &file)
	all, _ := file[section].(map[string]any)
	numbers := make(map[string]int64)
	for name, value := range all {
		n, err := strconv.ParseInt(fmt.Sprint(value), 0, 64)
		if err != nil {
			t.Fatalf("%s of %s: %v", name, section, err)
		}
		numbers[name] = n
	}
	return numbers
}

func TestNumbersAreThoseOfTheProtocol(t *testing.T) {
	for section, ours := range map[string]map[string]int64{
		"etypes": {
			"DES_CBC_CRC": int64(DES_CBC_CRC), "DES_CBC_MD5": int64(DES_CBC_MD5), "DES3_CBC_SHA1": int64(DES3_CBC_SHA1),
			"AES128_CTS_HMAC_SHA1_96": int64(AES128_CTS_HMAC_SHA1_96), "AES256_CTS_HMAC_SHA1_96": int64(AES256_CTS_HMAC_SHA1_96),
			"AES128_CTS_HMAC_SHA256_128": int64(AES128_CTS_HMAC_SHA256_128), "AES256_CTS_HMAC_SHA384_192": int64(AES256_CTS_HMAC_SHA384_192),
			"ARCFOUR_HMAC": int64(RC4_HMAC), "CAMELLIA128_CTS_CMAC": int64(CAMELLIA128_CTS_CMAC), "CAMELLIA256_CTS_CMAC": int64(CAMELLIA256_CTS_CMAC),
		},
		"checksum_types": {
			"CRC32": int64(CKSUMTYPE_CRC32), "RSA_MD4": int64(CKSUMTYPE_RSA_MD4), "RSA_MD5": int64(CKSUMTYPE_RSA_MD5),
			"RSA_MD5_DES": int64(CKSUMTYPE_RSA_MD5_DES), "HMAC_SHA1_DES3": int64(CKSUMTYPE_HMAC_SHA1_DES3_KD), "SHA1": int64(CKSUMTYPE_SHA1),
			"HMAC_SHA1_96_AES128": int64(CKSUMTYPE_HMAC_SHA1_96_AES128), "HMAC_SHA1_96_AES256": int64(CKSUMTYPE_HMAC_SHA1_96_AES256),
			"HMAC_SHA256_128_AES128": int64(CKSUMTYPE_HMAC_SHA256_128_AES128), "HMAC_SHA384_192_AES256": int64(CKSUMTYPE_HMAC_SHA384_192_AES256),
			"CMAC_CAMELLIA128": int64(CKSUMTYPE_CMAC_CAMELLIA128), "CMAC_CAMELLIA256": int64(CKSUMTYPE_CMAC_CAMELLIA256),
			"MD5_HMAC_ARCFOUR": int64(KERB_CHECKSUM_MD5_HMAC), "HMAC_MD5_ARCFOUR": int64(KERB_CHECKSUM_HMAC_MD5),
		},
		"key_usages": {
			"AS_REQ_PA_ENC_TS": int64(KEY_USAGE_AS_REQ_PA_ENC_TIMESTAMP), "KDC_REP_TICKET": int64(KEY_USAGE_TICKET),
			"AS_REP_ENCPART": int64(KEY_USAGE_AS_REP), "TGS_REQ_AD_SESSKEY": int64(KEY_USAGE_TGS_REQ_AUTHZ_DATA_SESSION),
			"TGS_REQ_AD_SUBKEY": int64(KEY_USAGE_TGS_REQ_AUTHZ_DATA_SUBKEY), "TGS_REQ_AUTH_CKSUM": int64(KEY_USAGE_TGS_REQ_CHECKSUM),
			"TGS_REQ_AUTH": int64(KEY_USAGE_TGS_REQ_AUTHENTICATOR), "TGS_REP_ENCPART_SESSKEY": int64(KEY_USAGE_TGS_REP_SESSION),
			"TGS_REP_ENCPART_SUBKEY": int64(KEY_USAGE_TGS_REP_SUBKEY), "AP_REQ_AUTH_CKSUM": int64(KEY_USAGE_AP_REQ_CHECKSUM),
			"AP_REQ_AUTH": int64(KEY_USAGE_AP_REQ_AUTHENTICATOR), "AP_REP_ENCPART": int64(KEY_USAGE_AP_REP),
			"KRB_PRIV_ENCPART": int64(KEY_USAGE_KRB_PRIV), "KRB_CRED_ENCPART": int64(KEY_USAGE_KRB_CRED), "KRB_SAFE_CKSUM": int64(KEY_USAGE_KRB_SAFE),
			"AD_KDCISSUED_CKSUM": int64(KEY_USAGE_AD_KDC_ISSUED), "PA_FOR_USER_CKSUM": int64(KEY_USAGE_PA_FOR_USER),
			"PA_S4U_X509_USER_REQUEST": int64(KEY_USAGE_PA_S4U_X509_USER_REQUEST), "PA_S4U_X509_USER_REPLY": int64(KEY_USAGE_PA_S4U_X509_USER_REPLY),
			"FAST_REQ_CHKSUM": int64(KEY_USAGE_FAST_REQ_CHKSUM), "FAST_ENC": int64(KEY_USAGE_FAST_ENC), "FAST_REP": int64(KEY_USAGE_FAST_REP),
			"FAST_FINISHED": int64(KEY_USAGE_FAST_FINISHED), "ENC_CHALLENGE_CLIENT": int64(KEY_USAGE_ENC_CHALLENGE_CLIENT),
			"ENC_CHALLENGE_KDC": int64(KEY_USAGE_ENC_CHALLENGE_KDC), "AS_REQ": int64(KEY_USAGE_AS_REQ), "CAMMAC": int64(KEY_USAGE_CAMMAC),
			"SPAKE": int64(KEY_USAGE_SPAKE),
		},
	} {
		theirs := facts(t, section)
		for name, got := range ours {
			if want, ok := theirs[name]; !ok || got != want {
				t.Errorf("%s of %s is %d, want %d", name, section, got, want)
			}
		}
	}
}

func TestFASTUsagesAreThoseOfRFC6113(t *testing.T) {
	var file struct {
		Usages map[string]any `json:"key_usages"`
	}
	load(t, "rfc6113.json", &file)
	for name, usage := range map[string]Usage{
		"FAST_REQ_CHKSUM": KEY_USAGE_FAST_REQ_CHKSUM, "FAST_ENC": KEY_USAGE_FAST_ENC, "FAST_REP": KEY_USAGE_FAST_REP,
		"FAST_FINISHED": KEY_USAGE_FAST_FINISHED, "ENC_CHALLENGE_CLIENT": KEY_USAGE_ENC_CHALLENGE_CLIENT,
		"ENC_CHALLENGE_KDC": KEY_USAGE_ENC_CHALLENGE_KDC,
	} {
		if got, want := fmt.Sprint(usage), fmt.Sprint(file.Usages[name]); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
