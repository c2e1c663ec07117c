package messages

import (
	"strconv"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// PADataType is the type of a pre-authentication data element, which is today's way to say extension.
type PADataType int32

// The types of the IANA registry "Pre-Authentication and Typed Data" that are met today, and Microsoft's.
const (
	PA_TGS_REQ             PADataType = 1   // RFC 4120 5.2.7.1: an AP-REQ
	PA_ENC_TIMESTAMP       PADataType = 2   // RFC 4120 5.2.7.2: EncryptedData of a PAEncTSEnc
	PA_PW_SALT             PADataType = 3   // RFC 4120 5.2.7.3; in an error of Windows or Samba an extended error
	PA_ETYPE_INFO          PADataType = 11  // RFC 4120 5.2.7.4
	PA_PK_AS_REQ           PADataType = 16  // RFC 4556
	PA_PK_AS_REP           PADataType = 17  // RFC 4556
	PA_ETYPE_INFO2         PADataType = 19  // RFC 4120 5.2.7.5
	PA_SVR_REFERRAL_INFO   PADataType = 20  // RFC 6806
	TD_KRB_PRINCIPAL       PADataType = 102 // RFC 6113 9
	TD_KRB_REALM           PADataType = 103 // RFC 6113 9
	TD_TRUSTED_CERTIFIERS  PADataType = 104 // RFC 4556
	TD_CERTIFICATE_INDEX   PADataType = 105 // RFC 4556
	TD_APP_DEFINED_ERROR   PADataType = 106 // RFC 6113 9
	TD_REQ_NONCE           PADataType = 107 // RFC 6113 9
	TD_REQ_SEQ             PADataType = 108 // RFC 6113 9
	TD_DH_PARAMETERS       PADataType = 109 // RFC 4556
	PA_PAC_REQUEST         PADataType = 128 // [MS-KILE] 2.2.3
	PA_FOR_USER            PADataType = 129 // [MS-SFU] 2.2.1
	PA_FOR_X509_USER       PADataType = 130 // [MS-SFU] 2.2.2, there PA-S4U-X509-USER
	PA_AS_CHECKSUM         PADataType = 132 // RFC 6113
	PA_FX_COOKIE           PADataType = 133 // RFC 6113 5.2: opaque, to be sent back
	PA_AUTHENTICATION_SET  PADataType = 134 // RFC 6113 5.3
	PA_AUTH_SET_SELECTED   PADataType = 135 // RFC 6113 5.3
	PA_FX_FAST             PADataType = 136 // RFC 6113 5.4
	PA_FX_ERROR            PADataType = 137 // RFC 6113 5.4.4: a KRB-ERROR
	PA_ENCRYPTED_CHALLENGE PADataType = 138 // RFC 6113 5.4.6: EncryptedData of a PAEncTSEnc
	PA_OTP_CHALLENGE       PADataType = 141 // RFC 6560
	PA_OTP_REQUEST         PADataType = 142 // RFC 6560
	PA_OTP_PIN_CHANGE      PADataType = 144 // RFC 6560
	PA_PKINIT_KX           PADataType = 147 // RFC 8062
	PA_PKU2U_NAME          PADataType = 148
	PA_REQ_ENC_PA_REP      PADataType = 149 // RFC 6806 11: empty in a request, Checksum in a reply
	PA_AS_FRESHNESS        PADataType = 150 // RFC 8070
	PA_SPAKE               PADataType = 151 // RFC 9588
	PA_REDHAT_IDP_OAUTH2   PADataType = 152
	PA_REDHAT_PASSKEY      PADataType = 153
	KERB_KEY_LIST_REQ      PADataType = 161 // [MS-KILE] 2.2.11
	KERB_KEY_LIST_REP      PADataType = 162 // [MS-KILE] 2.2.12
	PA_SUPPORTED_ETYPES    PADataType = 165 // [MS-KILE] 2.2.8
	PA_EXTENDED_ERROR      PADataType = 166 // [MS-KILE] 2.2.9
	PA_PAC_OPTIONS         PADataType = 167 // [MS-KILE] 2.2.10
)

// PA_S4U_X509_USER is [MS-SFU]'s name of PA_FOR_X509_USER.
const PA_S4U_X509_USER = PA_FOR_X509_USER

var paDataTypeNames = map[PADataType]string{
	PA_TGS_REQ: "PA_TGS_REQ", PA_ENC_TIMESTAMP: "PA_ENC_TIMESTAMP", PA_PW_SALT: "PA_PW_SALT",
	PA_ETYPE_INFO: "PA_ETYPE_INFO", PA_PK_AS_REQ: "PA_PK_AS_REQ", PA_PK_AS_REP: "PA_PK_AS_REP",
	PA_ETYPE_INFO2: "PA_ETYPE_INFO2", PA_SVR_REFERRAL_INFO: "PA_SVR_REFERRAL_INFO",
	TD_KRB_PRINCIPAL: "TD_KRB_PRINCIPAL", TD_KRB_REALM: "TD_KRB_REALM",
	TD_TRUSTED_CERTIFIERS: "TD_TRUSTED_CERTIFIERS", TD_CERTIFICATE_INDEX: "TD_CERTIFICATE_INDEX",
	TD_APP_DEFINED_ERROR: "TD_APP_DEFINED_ERROR", TD_REQ_NONCE: "TD_REQ_NONCE", TD_REQ_SEQ: "TD_REQ_SEQ",
	TD_DH_PARAMETERS: "TD_DH_PARAMETERS", PA_PAC_REQUEST: "PA_PAC_REQUEST", PA_FOR_USER: "PA_FOR_USER",
	PA_FOR_X509_USER: "PA_FOR_X509_USER", PA_AS_CHECKSUM: "PA_AS_CHECKSUM", PA_FX_COOKIE: "PA_FX_COOKIE",
	PA_AUTHENTICATION_SET: "PA_AUTHENTICATION_SET", PA_AUTH_SET_SELECTED: "PA_AUTH_SET_SELECTED",
	PA_FX_FAST: "PA_FX_FAST", PA_FX_ERROR: "PA_FX_ERROR", PA_ENCRYPTED_CHALLENGE: "PA_ENCRYPTED_CHALLENGE",
	PA_OTP_CHALLENGE: "PA_OTP_CHALLENGE", PA_OTP_REQUEST: "PA_OTP_REQUEST", PA_OTP_PIN_CHANGE: "PA_OTP_PIN_CHANGE",
	PA_PKINIT_KX: "PA_PKINIT_KX", PA_PKU2U_NAME: "PA_PKU2U_NAME", PA_REQ_ENC_PA_REP: "PA_REQ_ENC_PA_REP",
	PA_AS_FRESHNESS: "PA_AS_FRESHNESS", PA_SPAKE: "PA_SPAKE", PA_REDHAT_IDP_OAUTH2: "PA_REDHAT_IDP_OAUTH2",
	PA_REDHAT_PASSKEY: "PA_REDHAT_PASSKEY", KERB_KEY_LIST_REQ: "KERB_KEY_LIST_REQ",
	KERB_KEY_LIST_REP: "KERB_KEY_LIST_REP", PA_SUPPORTED_ETYPES: "PA_SUPPORTED_ETYPES",
	PA_EXTENDED_ERROR: "PA_EXTENDED_ERROR", PA_PAC_OPTIONS: "PA_PAC_OPTIONS",
}

// String is the registered name, or the number of a type that has none here.
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
// (RFC 4120 5.2.7)
type PAData struct {
	Type  PADataType
	Value []byte
}

// Append appends the DER encoding.
func (p PAData) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 1, der.AppendInt, p.Type)
		return der.AppendField(dst, 2, der.AppendOctetString, p.Value)
	})
}

func readPAData(s *der.String, p *PAData) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 1, der.ReadInt32, &p.Type) &&
		der.ReadField(&seq, 2, der.ReadOctets, &p.Value) &&
		der.SkipUnknown(&seq, 2)
}

// MethodData is a list of PAData: the e-data of KDC_ERR_PREAUTH_REQUIRED, the padata of a message, the encrypted-pa-data of a reply.
//
//	METHOD-DATA     ::= SEQUENCE OF PA-DATA
//
// (RFC 4120 5.9.1)
type MethodData []PAData

// ParseMethodData reads METHOD-DATA.
func ParseMethodData(b []byte) (MethodData, error) {
	m, err := parse(b, "METHOD-DATA", readMethodData)
	if err != nil {
		return nil, err
	}
	return *m, nil
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

// Append appends the DER encoding.
func (m MethodData) Append(dst []byte) []byte {
	return der.AppendSequenceOf(der.AppendValue[PAData])(dst, m)
}

// Marshal returns the DER encoding.
func (m MethodData) Marshal() []byte { return m.Append(nil) }

func readMethodData(s *der.String, m *MethodData) bool {
	return der.ReadSequenceOf(readPAData)(s, (*[]PAData)(m))
}

// appendOptionalPAData writes a list of PAData under [n] unless it is nil.
func appendOptionalPAData(dst []byte, n uint8, m MethodData) []byte {
	if m == nil {
		return dst
	}
	return der.AppendField(dst, n, der.AppendValue, m)
}

// TypedData is the e-data of some errors, with the types of PADataType.
//
//	TYPED-DATA      ::= SEQUENCE SIZE (1..MAX) OF SEQUENCE {
//	        data-type       [0] Int32,
//	        data-value      [1] OCTET STRING OPTIONAL
//	}
//
// (RFC 4120 5.9.1)
type TypedData []PAData

// ParseTypedData reads TYPED-DATA.
func ParseTypedData(b []byte) (TypedData, error) {
	t, err := parse(b, "TYPED-DATA", readTypedData)
	if err != nil {
		return nil, err
	}
	return *t, nil
}

// Append appends the DER encoding. An element whose value is nil is written without.
func (t TypedData) Append(dst []byte) []byte { return der.AppendSequenceOf(appendTyped)(dst, t) }

// Marshal returns the DER encoding.
func (t TypedData) Marshal() []byte { return t.Append(nil) }

func appendTyped(dst []byte, p PAData) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, p.Type)
		if p.Value != nil {
			dst = der.AppendField(dst, 1, der.AppendOctetString, p.Value)
		}
		return dst
	})
}

func readTypedData(s *der.String, t *TypedData) bool {
	return der.ReadSequenceOf(readTyped)(s, (*[]PAData)(t)) && len(*t) > 0
}

func readTyped(s *der.String, p *PAData) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadInt32, &p.Type) &&
		der.ReadOptional(&seq, 1, der.ReadOctets, &p.Value) &&
		der.SkipUnknown(&seq, 1)
}
