package messages

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// marshaler is what every PDU is.
type marshaler interface{ Marshal() []byte }

// pdu ties a PDU's name to its parser and to values whose encodings tests/vectors/messages.json
// holds.
type pdu struct {
	name   string
	parse  func(b []byte) (marshaler, error)
	values map[string]marshaler // by variant
}

// Marshal is for the table: TYPED-DATA is only read.
func (t TypedData) Marshal() []byte { return der.AppendCoded(nil, codeTypedData, &t) }

// parserOf fits a ParseX that returns a pointer or a list into the table.
func parserOf[T marshaler](parse func([]byte) (T, error)) func([]byte) (marshaler, error) {
	return func(b []byte) (marshaler, error) {
		v, err := parse(b)
		if err != nil {
			return nil, err
		}
		return v, nil
	}
}

var (
	time0 = time.Date(2026, 11, 20, 5, 52, 49, 0, time.UTC)
	time1 = time0.Add(time.Second)
	time2 = time0.Add(10 * time.Hour)
	time3 = time0.AddDate(0, 0, 7)

	alice = NewPrincipalName(KRB_NT_PRINCIPAL, "alice")
	web   = NewPrincipalName(KRB_NT_SRV_INST, "HTTP", "web.example.com")
	none  = PrincipalName{NameString: []string{}}
	realm = "EXAMPLE.COM"

	sessionKey = testKey()
	sealed     = EncryptedData{EType: enctype.AES256_CTS_HMAC_SHA1_96, KVNO: 3, HasKVNO: true, Cipher: []byte{0xde, 0xad, 0xbe, 0xef}}
	sealed0    = EncryptedData{EType: enctype.RC4_HMAC, Cipher: []byte{0}}
	ticket     = Ticket{Realm: realm, SName: web, EncPart: sealed}
	ticket0    = Ticket{Realm: realm, SName: none, EncPart: sealed0}
	checksum   = Checksum{enctype.CKSUMTYPE_HMAC_SHA1_96_AES256, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}
	checksum0  = Checksum{enctype.KERB_CHECKSUM_HMAC_MD5, []byte{}}
	addr4      = HostAddress{ADDRTYPE_IPV4, []byte{192, 0, 2, 1}}
	addr6      = HostAddress{ADDRTYPE_IPV6, []byte{0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}}
	empty      = []byte{0x30, 0}

	certifier = ExternalPrincipalIdentifier{[]byte{0x30, 0}, []byte{0x30, 1}, []byte{1}}
	oidSHA256 = []byte("\x60\x86\x48\x01\x65\x03\x04\x02\x01")
	oidDH     = []byte("\x2a\x86\x48\xce\x3e\x02\x01")
	oidKDF    = []byte("\x2b\x06\x01\x05\x02\x03\x06\x02")

	body = KDCReqBody{
		KDCOptions: KDC_OPT_FORWARDABLE | KDC_OPT_RENEWABLE | KDC_OPT_CANONICALIZE | KDC_OPT_RENEWABLE_OK,
		CName:      alice, Realm: realm, SName: TGSName(realm), From: time0, Till: time2, RTime: time3, Nonce: 0x7fffffff,
		EType:     []enctype.ID{enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96, -133},
		Addresses: []HostAddress{addr4, addr6}, EncAuthorizationData: &sealed0, AdditionalTickets: []Ticket{ticket, ticket},
	}
	body0 = KDCReqBody{Realm: realm, Till: time2, EType: []enctype.ID{enctype.AES256_CTS_HMAC_SHA1_96}}
)

func testKey() enctype.Key {
	raw := make([]byte, 32)
	for i := range raw {
		raw[i] = byte(i)
	}
	key, err := enctype.NewKey(enctype.AES256_CTS_HMAC_SHA1_96, raw)
	if err != nil {
		panic(err)
	}
	return key
}

// pdus is every PDU of the package.
var pdus = []pdu{
	{"KDC-REQ", parserOf(ParseKDCReq), map[string]marshaler{
		"full":    &KDCReq{KRB_TGS_REQ, MethodData{{PA_TGS_REQ, []byte{0x6e, 0}}, {-7, []byte{}}}, body},
		"minimal": &KDCReq{KRB_AS_REQ, nil, body0},
	}},
	{"KDC-REQ-BODY", parserOf(ParseKDCReqBody), map[string]marshaler{"full": &body, "minimal": &body0}},
	{"KDC-REP", parserOf(ParseKDCRep), map[string]marshaler{
		"full":    &KDCRep{KRB_TGS_REP, MethodData{{PA_FX_FAST, []byte{0xa0}}}, realm, alice, ticket, sealed},
		"minimal": &KDCRep{KRB_AS_REP, nil, realm, alice, ticket, sealed0},
	}},
	{"EncKDCRepPart", parserOf(ParseEncKDCRepPart), map[string]marshaler{
		"full": &EncKDCRepPart{
			EncASRepPartTag, sessionKey,
			LastReq{{LR_NONE, time0}, {-LR_PW_EXPTIME, time1}},
			0xfffffffe, time3,
			TKT_FLG_FORWARDABLE | TKT_FLG_RENEWABLE | TKT_FLG_INITIAL | TKT_FLG_PRE_AUTHENT | TKT_FLG_ENC_PA_REP,
			time0, time1, time2, time3, realm, web,
			[]HostAddress{addr4},
			MethodData{{PA_REQ_ENC_PA_REP, empty}},
		},
		"minimal": &EncKDCRepPart{
			Tag: EncTGSRepPartTag, Key: sessionKey, LastReq: LastReq{}, Nonce: 1, AuthTime: time0, EndTime: time2, SRealm: realm, SName: web,
		},
	}},
	{"Ticket", parserOf(ParseTicket), map[string]marshaler{"full": &ticket, "minimal": &ticket0}},
	{"EncTicketPart", parserOf(ParseEncTicketPart), map[string]marshaler{
		"full": &EncTicketPart{
			TKT_FLG_FORWARDABLE | TKT_FLG_RENEWABLE | TKT_FLG_PRE_AUTHENT | TKT_FLG_TRANSITED_POLICY_CHECKED | TKT_FLG_ENC_PA_REP,
			sessionKey, realm, alice,
			TransitedEncoding{DOMAIN_X500_COMPRESS, []byte("A,B")},
			time0, time1, time2, time3,
			[]HostAddress{addr4, addr6},
			AuthorizationData{{AD_IF_RELEVANT, empty}},
		},
		"minimal": &EncTicketPart{
			Key: sessionKey, CRealm: realm, CName: alice, Transited: TransitedEncoding{0, []byte{}}, AuthTime: time0, EndTime: time2,
		},
	}},
	{"Authenticator", parserOf(ParseAuthenticator), map[string]marshaler{
		"full": &Authenticator{
			realm, alice, &checksum, 999999, time0, sessionKey, 0x80000000, true,
			AuthorizationData{{AD_IF_RELEVANT, empty}, {AD_AUTH_DATA_AP_OPTIONS, []byte{0, 0x40, 0, 0}}},
		},
		"minimal": &Authenticator{CRealm: realm, CName: alice, CTime: time0},
	}},
	{"AP-REQ", parserOf(ParseAPReq), map[string]marshaler{"full": &APReq{AP_OPTS_MUTUAL_REQUIRED, ticket, sealed0}}},
	{"AP-REP", parserOf(ParseAPRep), map[string]marshaler{"full": &APRep{sealed0}}},
	{"EncAPRepPart", parserOf(ParseEncAPRepPart), map[string]marshaler{
		"full":    &EncAPRepPart{time0, 123456, sessionKey, 0, true},
		"minimal": &EncAPRepPart{CTime: time0, CUSec: 128},
	}},
	{"KRB-ERROR", parserOf(ParseKRBError), map[string]marshaler{
		"full": &KRBError{
			time0, 5, time1, 999999, KDC_ERR_PREAUTH_REQUIRED, realm, alice, realm, TGSName(realm), "NEEDED_PREAUTH", empty,
		},
		"minimal": &KRBError{STime: time1, ErrorCode: KDC_ERR_S_PRINCIPAL_UNKNOWN, SName: none},
	}},
	{"KRB-CRED", parserOf(ParseKRBCred), map[string]marshaler{"full": &KRBCred{[]Ticket{ticket}, sealed0}}},
	{"EncKrbCredPart", parserOf(ParseEncKrbCredPart), map[string]marshaler{
		"full": &EncKrbCredPart{
			[]KrbCredInfo{
				{
					sessionKey, realm, alice, TKT_FLG_FORWARDABLE | TKT_FLG_FORWARDED, time0, time1, time2, time3,
					realm, TGSName(realm),
					[]HostAddress{addr6},
				},
				{Key: sessionKey},
			},
			42, time0, 0, &addr4, &addr6,
		},
		"minimal": &EncKrbCredPart{TicketInfo: []KrbCredInfo{{Key: sessionKey}}},
	}},
	{"KRB-PRIV", parserOf(ParseKRBPriv), map[string]marshaler{"full": &KRBPriv{sealed0}}},
	{"EncKrbPrivPart", parserOf(ParseEncKrbPrivPart), map[string]marshaler{
		"full":    &EncKrbPrivPart{[]byte("secret"), time0, 123456, 0x80000000, true, &addr4, &addr6},
		"minimal": &EncKrbPrivPart{UserData: []byte{}, SAddress: &addr4},
	}},
	{"EncryptedData", parserOf(ParseEncryptedData), map[string]marshaler{"full": &sealed, "minimal": &sealed0}},
	{"Checksum", parserOf(ParseChecksum), map[string]marshaler{"full": &checksum, "minimal": &checksum0}},
	{"AuthorizationData", parserOf(ParseAuthorizationData), map[string]marshaler{
		"full":    AuthorizationData{{AD_IF_RELEVANT, empty}, {AD_WIN2K_PAC, []byte{4}}},
		"minimal": AuthorizationData{},
	}},
	{"METHOD-DATA", parserOf(ParseMethodData), map[string]marshaler{
		"full":    MethodData{{PA_FX_FAST, []byte{}}, {PA_ETYPE_INFO2, empty}},
		"minimal": MethodData{},
	}},
	{"TYPED-DATA", parserOf(ParseTypedData), map[string]marshaler{"full": TypedData{{TD_KRB_PRINCIPAL, empty}, {-1, nil}}}},
	{"ETYPE-INFO2", parserOf(ParseETypeInfo2), map[string]marshaler{
		"full": ETypeInfo2{
			{enctype.AES256_CTS_HMAC_SHA1_96, "EXAMPLE.COMalice", true, []byte{0, 0, 0x10, 0}},
			{EType: enctype.RC4_HMAC},
		},
		"minimal": ETypeInfo2{{EType: enctype.AES128_CTS_HMAC_SHA1_96, HasSalt: true}},
	}},
	{"ETYPE-INFO", parserOf(ParseETypeInfo), map[string]marshaler{
		"full": ETypeInfo{{enctype.RC4_HMAC, []byte("A")}, {EType: enctype.DES_CBC_MD5}},
	}},
	{"PA-ENC-TS-ENC", parserOf(ParsePAEncTSEnc), map[string]marshaler{"full": &PAEncTSEnc{time0, 65536}}},
	{"PA-PAC-OPTIONS", parserOf(ParsePACOptions), map[string]marshaler{
		"full": PAC_OPTIONS_CLAIMS | PAC_OPTIONS_RESOURCE_BASED_CONSTRAINED_DELEGATION,
	}},
	{"PA-FOR-USER", parserOf(ParsePAForUser), map[string]marshaler{
		"full": &PAForUser{alice, realm, Checksum{enctype.KERB_CHECKSUM_HMAC_MD5, unhex("00112233445566778899aabbccddeeff")}, S4UAuthPackage},
	}},
	{"PA-S4U-X509-USER", parserOf(ParsePAS4UX509User), map[string]marshaler{
		"full": &PAS4UX509User{S4UUserID{
			Nonce: 77, CName: NewPrincipalName(KRB_NT_ENTERPRISE, "alice@example.com"), CRealm: realm, SubjectCertificate: empty,
			Options: KERB_S4U_OPTIONS_CHECK_LOGON_HOURS | KERB_S4U_OPTIONS_USE_REPLY_KEY_USAGE,
		}, checksum},
		"minimal": &PAS4UX509User{S4UUserID{Nonce: 77, CRealm: realm}, checksum},
	}},
	{"PA-FX-FAST-REQUEST", parserOf(ParseKrbFastArmoredReq), map[string]marshaler{
		"full":    &KrbFastArmoredReq{&KrbFastArmor{FX_FAST_ARMOR_AP_REQUEST, []byte{0x6e, 0}}, checksum, sealed0},
		"minimal": &KrbFastArmoredReq{nil, checksum, sealed0},
	}},
	{"KrbFastReq", parserOf(ParseKrbFastReq), map[string]marshaler{
		"full":    &KrbFastReq{FAST_OPT_HIDE_CLIENT_NAMES, MethodData{{PA_ENCRYPTED_CHALLENGE, empty}}, body},
		"minimal": &KrbFastReq{0, MethodData{}, body0},
	}},
	{"PA-FX-FAST-REPLY", parserOf(ParseKrbFastArmoredRep), map[string]marshaler{"full": &KrbFastArmoredRep{sealed0}}},
	{"KrbFastResponse", parserOf(ParseKrbFastResponse), map[string]marshaler{
		"full": &KrbFastResponse{
			MethodData{{PA_FX_COOKIE, []byte("MIT")}}, sessionKey, &KrbFastFinished{time0, 17, realm, alice, checksum}, 0x80000001,
		},
		"minimal": &KrbFastResponse{PAData: MethodData{}},
	}},
	{"PA-SPAKE", parserOf(ParsePASPAKE), map[string]marshaler{
		"support": &PASPAKE{Support: &SPAKESupport{[]SPAKEGroup{SPAKE_GROUP_EDWARDS25519, SPAKE_GROUP_P256}}},
		"challenge": &PASPAKE{Challenge: &SPAKEChallenge{
			SPAKE_GROUP_EDWARDS25519, bytes.Repeat([]byte{0xaa}, 32), []SPAKESecondFactor{{SPAKE_SF_NONE, nil}, {2, []byte{0xff}}},
		}},
		"response": &PASPAKE{Response: &SPAKEResponse{bytes.Repeat([]byte{0xbb}, 32), sealed0}},
		"encdata":  &PASPAKE{EncData: &sealed0},
	}},
	{"SPAKESecondFactor", parserOf(ParseSPAKESecondFactor), map[string]marshaler{
		"full": &SPAKESecondFactor{2, []byte{0xff}}, "minimal": &SPAKESecondFactor{SPAKE_SF_NONE, nil},
	}},
	{"PA-PK-AS-REQ", parserOf(ParsePAPKASReq), map[string]marshaler{
		"full":    &PAPKASReq{empty, []ExternalPrincipalIdentifier{certifier}, []byte{2}},
		"minimal": &PAPKASReq{SignedAuthPack: empty},
	}},
	{"AuthPack", parserOf(ParseAuthPack), map[string]marshaler{
		"full": &AuthPack{
			PKAuthenticator{17, time0, 0x80000001, []byte{1}, []byte{2}, &PAChecksum2{[]byte{3}, AlgorithmIdentifier{Algorithm: oidSHA256}}},
			&SubjectPublicKeyInfo{AlgorithmIdentifier{oidDH, empty}, []byte{2, 1, 2}},
			[]AlgorithmIdentifier{{Algorithm: oidSHA256}, {oidSHA256, []byte{5, 0}}},
			[]byte{4},
			[]KDFAlgorithmID{{oidKDF}},
		},
		"minimal": &AuthPack{PKAuthenticator: PKAuthenticator{CTime: time0}},
	}},
	{"PA-PK-AS-REP", parserOf(ParsePAPKASRep), map[string]marshaler{
		"dhInfo":         &PAPKASRep{DHInfo: &DHRepInfo{empty, []byte{1}, &KDFAlgorithmID{oidKDF}}},
		"dhInfo minimal": &PAPKASRep{DHInfo: &DHRepInfo{DHSignedData: empty}},
		"encKeyPack":     &PAPKASRep{EncKeyPack: empty},
	}},
	{"KDCDHKeyInfo", parserOf(ParseKDCDHKeyInfo), map[string]marshaler{
		"full":    &KDCDHKeyInfo{[]byte{2, 1, 2}, 0x80000001, time0},
		"minimal": &KDCDHKeyInfo{SubjectPublicKey: []byte{2, 1, 2}},
	}},
	{"TD-DH-PARAMETERS", parserOf(ParseTDDHParameters), map[string]marshaler{
		"full": TDDHParameters{{oidDH, empty}, {Algorithm: oidSHA256}},
	}},
	{"TD-TRUSTED-CERTIFIERS", parserOf(ParseTDCertifiers), map[string]marshaler{
		"full": TDCertifiers{certifier, {SubjectKeyIdentifier: []byte{1}}},
	}},
	{"KRB5PrincipalName", parserOf(ParseKRB5PrincipalName), map[string]marshaler{"full": &KRB5PrincipalName{realm, alice}}},
	{"KERB-ERROR-DATA", parserOf(ParseKerbErrorData), map[string]marshaler{
		"full":    &KerbErrorData{KERB_ERR_TYPE_EXTENDED, ExtendedError(STATUS_ACCOUNT_LOCKED_OUT)},
		"minimal": &KerbErrorData{DataType: KERB_AP_ERR_TYPE_SKEW_RECOVERY},
	}},
}

// padded are the PDUs that are read from decrypted plaintexts, which padding may follow.
var padded = map[string]bool{
	"EncKDCRepPart": true, "EncTicketPart": true, "Authenticator": true, "EncAPRepPart": true, "EncKrbCredPart": true, "EncKrbPrivPart": true,
	"PA-ENC-TS-ENC": true, "KrbFastReq": true, "KrbFastResponse": true, "SPAKESecondFactor": true,
}

// goldens is tests/vectors/messages.json: the encodings, by "PDU variant".
func goldens(t testing.TB) map[string][]byte {
	var file struct{ Messages map[string]string }
	vectors.Load(t, "messages.json", &file)
	m := make(map[string][]byte)
	for name, s := range file.Messages {
		m[name] = unhex(s)
	}
	return m
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// stripRaw forgets the original bytes everywhere in v, so that its fields are what Marshal encodes.
func stripRaw(v any) { stripRawValue(reflect.ValueOf(v)) }

func stripRawValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			stripRawValue(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			stripRawValue(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Name == "Raw" {
				v.Field(i).SetZero()
			} else if f.IsExported() {
				stripRawValue(v.Field(i))
			}
		}
	default: // has no fields
	}
}
