package messages

import (
	"strconv"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// PADataType is the type of a pre-authentication data element, which is today's way to say
// extension.
type PADataType int32

// The types in use here.
const (
	PA_TGS_REQ              PADataType = 1   // RFC 4120, Section 5.2.7.1: an AP-REQ
	PA_ENC_TIMESTAMP        PADataType = 2   // RFC 4120, Section 5.2.7.2: EncryptedData of a PAEncTSEnc
	PA_PW_SALT              PADataType = 3   // RFC 4120, Section 5.2.7.3; in an error of Windows or Samba an extended error
	PA_ETYPE_INFO           PADataType = 11  // RFC 4120, Section 5.2.7.4
	PA_PK_AS_REQ            PADataType = 16  // RFC 4556
	PA_PK_AS_REP            PADataType = 17  // RFC 4556
	PA_ETYPE_INFO2          PADataType = 19  // RFC 4120, Section 5.2.7.5
	TD_KRB_PRINCIPAL        PADataType = 102 // RFC 6113, Section 9
	TD_TRUSTED_CERTIFIERS   PADataType = 104 // RFC 4556, Section 3.2.2
	TD_INVALID_CERTIFICATES PADataType = 105 // RFC 4556, Section 3.2.2; IANA's name is TD_CERTIFICATE_INDEX
	TD_REQ_NONCE            PADataType = 107 // RFC 6113, Section 9
	TD_DH_PARAMETERS        PADataType = 109 // RFC 4556, Section 3.1.3
	PA_FOR_USER             PADataType = 129 // [MS-SFU], Section 2.2.1
	PA_FOR_X509_USER        PADataType = 130 // [MS-SFU], Section 2.2.2, there PA-S4U-X509-USER
	PA_FX_COOKIE            PADataType = 133 // RFC 6113, Section 5.2: opaque, to be sent back
	PA_FX_FAST              PADataType = 136 // RFC 6113, Section 5.4
	PA_FX_ERROR             PADataType = 137 // RFC 6113, Section 5.4.4: a KRB-ERROR
	PA_ENCRYPTED_CHALLENGE  PADataType = 138 // RFC 6113, Section 5.4.6: EncryptedData of a PAEncTSEnc
	PA_PKINIT_KX            PADataType = 147 // RFC 8062, Section 4.2: EncryptedData of an EncryptionKey
	PA_REQ_ENC_PA_REP       PADataType = 149 // RFC 6806, Section 11: empty in a request, Checksum in a reply
	PA_AS_FRESHNESS         PADataType = 150 // RFC 8070, Section 4: empty in a request, then an opaque token
	PA_SPAKE                PADataType = 151 // RFC 9588
	PA_PAC_OPTIONS          PADataType = 167 // [MS-KILE], Section 2.2.10
)

// PA_S4U_X509_USER is [MS-SFU]'s name of PA_FOR_X509_USER.
const PA_S4U_X509_USER = PA_FOR_X509_USER

// paDataTypeNames has the types of the IANA registry "Pre-Authentication and Typed Data" that are met
// today, and Microsoft's.
var paDataTypeNames = map[PADataType]string{
	1: "PA_TGS_REQ", 2: "PA_ENC_TIMESTAMP", 3: "PA_PW_SALT", 11: "PA_ETYPE_INFO",
	16: "PA_PK_AS_REQ", 17: "PA_PK_AS_REP", 19: "PA_ETYPE_INFO2", 20: "PA_SVR_REFERRAL_INFO",
	102: "TD_KRB_PRINCIPAL", 103: "TD_KRB_REALM", 104: "TD_TRUSTED_CERTIFIERS",
	105: "TD_CERTIFICATE_INDEX", 106: "TD_APP_DEFINED_ERROR", 107: "TD_REQ_NONCE",
	108: "TD_REQ_SEQ", 109: "TD_DH_PARAMETERS", 128: "PA_PAC_REQUEST", 129: "PA_FOR_USER",
	130: "PA_FOR_X509_USER", 132: "PA_AS_CHECKSUM", 133: "PA_FX_COOKIE",
	134: "PA_AUTHENTICATION_SET", 135: "PA_AUTH_SET_SELECTED", 136: "PA_FX_FAST",
	137: "PA_FX_ERROR", 138: "PA_ENCRYPTED_CHALLENGE", 141: "PA_OTP_CHALLENGE",
	142: "PA_OTP_REQUEST", 144: "PA_OTP_PIN_CHANGE", 147: "PA_PKINIT_KX", 148: "PA_PKU2U_NAME",
	149: "PA_REQ_ENC_PA_REP", 150: "PA_AS_FRESHNESS", 151: "PA_SPAKE",
	152: "PA_REDHAT_IDP_OAUTH2", 153: "PA_REDHAT_PASSKEY", 161: "KERB_KEY_LIST_REQ",
	162: "KERB_KEY_LIST_REP", 165: "PA_SUPPORTED_ETYPES", 166: "PA_EXTENDED_ERROR",
	167: "PA_PAC_OPTIONS",
}

func (t PADataType) String() string {
	if name, ok := paDataTypeNames[t]; ok {
		return name
	}
	return strconv.Itoa(int(t))
}

// PAData is a pre-authentication data element.
//
//	PA-DATA         ::= SEQUENCE {
//	        -- NOTE: first tag is [1], not [0]
//	        padata-type     [1] Int32,
//	        padata-value    [2] OCTET STRING -- might be encoded AP-REQ
//	}
//
// (RFC 4120, Section 5.2.7)
type PAData struct {
	Type  PADataType
	Value []byte
}

func codePAData(c *der.Codec, p *PAData) { codeTyped(c, 1, &p.Type, &p.Value) }

// MethodData is a list of PAData: the e-data of KDC_ERR_PREAUTH_REQUIRED, the padata of a message,
// the encrypted-pa-data of a reply.
//
//	METHOD-DATA     ::= SEQUENCE OF PA-DATA
//
// (RFC 4120, Section 5.9.1)
type MethodData []PAData

func ParseMethodData(b []byte) (MethodData, error) {
	return parseValue(b, "METHOD-DATA", codeMethodData)
}

// Find returns the value of the first element of type t, and whether there is one.
func (m MethodData) Find(t PADataType) (value []byte, ok bool) {
	for _, p := range m {
		if p.Type == t {
			return p.Value, true
		}
	}
	return nil, false
}

func (m MethodData) Marshal() []byte { return der.AppendCoded(nil, codeMethodData, &m) }

func codeMethodData(c *der.Codec, m *MethodData) { der.List(c, codePAData, m) }

// TypedData is the e-data of some errors, with the types of PADataType.
//
//	TYPED-DATA      ::= SEQUENCE SIZE (1..MAX) OF SEQUENCE {
//	        data-type       [0] Int32,
//	        data-value      [1] OCTET STRING OPTIONAL
//	}
//
// (RFC 4120, Section 5.9.1)
type TypedData []PAData

func ParseTypedData(b []byte) (TypedData, error) {
	return parseValue(b, "TYPED-DATA", codeTypedData)
}

func codeTypedData(c *der.Codec, t *TypedData) {
	der.List(c, codeTypedDataElement, t)
	c.Require(len(*t) > 0)
}

func codeTypedDataElement(c *der.Codec, p *PAData) {
	c.Sequence(func() {
		der.Field(c, 0, der.Int32, &p.Type)
		der.Optional(c, 1, p.Value != nil, der.Octets, &p.Value)
	})
}
