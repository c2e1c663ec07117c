package messages

import (
	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// ADType is the type of an authorization data element.
type ADType int32

// The types of RFC 4120 7.5.4, RFC 6113 5.4.1.1, RFC 7751, RFC 4537, and [MS-KILE] 3.1.1.4.
const (
	AD_IF_RELEVANT                    ADType = 1
	AD_KDC_ISSUED                     ADType = 4
	AD_AND_OR                         ADType = 5
	AD_MANDATORY_FOR_KDC              ADType = 8
	AD_INITIAL_VERIFIED_CAS           ADType = 9
	AD_FX_FAST_ARMOR                  ADType = 71
	AD_FX_FAST_USED                   ADType = 72
	AD_CAMMAC                         ADType = 96
	AD_AUTHENTICATION_INDICATOR       ADType = 97
	AD_WIN2K_PAC                      ADType = 128
	AD_ETYPE_NEGOTIATION              ADType = 129
	KERB_AUTH_DATA_TOKEN_RESTRICTIONS ADType = 141
	KERB_LOCAL                        ADType = 142
	AD_AUTH_DATA_AP_OPTIONS           ADType = 143
	KERB_AUTH_DATA_CLIENT_TARGET      ADType = 144
)

// AuthorizationDataElement is one element of AuthorizationData.
type AuthorizationDataElement struct {
	Type  ADType // ad-type
	Value []byte // ad-data
}

// AuthorizationData restricts, or says more about, what a ticket authorizes.
//
//	AuthorizationData       ::= SEQUENCE OF SEQUENCE {
//	        ad-type         [0] Int32,
//	        ad-data         [1] OCTET STRING
//	}
//
// (RFC 4120 5.2.6)
type AuthorizationData []AuthorizationDataElement

// ParseAuthorizationData reads AuthorizationData, which is also the ad-data of AD_IF_RELEVANT.
func ParseAuthorizationData(b []byte) (AuthorizationData, error) {
	a, err := parse(b, "AuthorizationData", readAuthorizationData)
	if err != nil {
		return nil, err
	}
	return *a, nil
}

// IfRelevant wraps elements in an AD_IF_RELEVANT, which those who do not know them may ignore (RFC 4120 5.2.6.1).
func IfRelevant(elements ...AuthorizationDataElement) AuthorizationDataElement {
	return AuthorizationDataElement{AD_IF_RELEVANT, AuthorizationData(elements).Marshal()}
}

// Append appends the DER encoding.
func (a AuthorizationData) Append(dst []byte) []byte {
	return der.AppendSequenceOf(der.AppendValue[AuthorizationDataElement])(dst, a)
}

// Marshal returns the DER encoding.
func (a AuthorizationData) Marshal() []byte { return a.Append(nil) }

// Append appends the DER encoding.
func (e AuthorizationDataElement) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, e.Type)
		return der.AppendField(dst, 1, der.AppendOctetString, e.Value)
	})
}

func readAuthorizationData(s *der.String, a *AuthorizationData) bool {
	return der.ReadSequenceOf(readAuthorizationDataElement)(s, (*[]AuthorizationDataElement)(a))
}

func readAuthorizationDataElement(s *der.String, e *AuthorizationDataElement) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadInt32, &e.Type) &&
		der.ReadField(&seq, 1, der.ReadOctets, &e.Value) &&
		der.SkipUnknown(&seq, 1)
}

// appendOptionalAuthorizationData writes AuthorizationData under [n] unless it is nil.
func appendOptionalAuthorizationData(dst []byte, n uint8, a AuthorizationData) []byte {
	if a == nil {
		return dst
	}
	return der.AppendField(dst, n, der.AppendValue, a)
}
