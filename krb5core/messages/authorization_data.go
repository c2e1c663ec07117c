package messages

import "github.com/caddy-negotiate/caddy-negotiate/internal/der"

// ADType is the type of an authorization data element.
type ADType int32

// The types of RFC 4120, Section 7.5.4, RFC 6113, Section 5.4.1.1, RFC 7751, RFC 4537, and
// [MS-KILE], Section 3.1.1.4.
const (
	AD_IF_RELEVANT          ADType = 1
	AD_FX_FAST_ARMOR        ADType = 71
	AD_WIN2K_PAC            ADType = 128
	AD_AUTH_DATA_AP_OPTIONS ADType = 143
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
// (RFC 4120, Section 5.2.6)
type AuthorizationData []AuthorizationDataElement

// ParseAuthorizationData reads AuthorizationData, which is also the ad-data of AD_IF_RELEVANT.
func ParseAuthorizationData(b []byte) (AuthorizationData, error) {
	return parseValue(b, "AuthorizationData", codeAuthorizationData)
}

// IfRelevant wraps elements in an AD_IF_RELEVANT, which those who do not know them may ignore (RFC
// 4120, Section 5.2.6.1).
func IfRelevant(elements ...AuthorizationDataElement) AuthorizationDataElement {
	return AuthorizationDataElement{AD_IF_RELEVANT, AuthorizationData(elements).Marshal()}
}

func (a AuthorizationData) Marshal() []byte { return der.AppendCoded(nil, codeAuthorizationData, &a) }

func codeAuthorizationData(c *der.Codec, a *AuthorizationData) {
	der.List(c, codeAuthorizationDataElement, a)
}

func codeAuthorizationDataElement(c *der.Codec, e *AuthorizationDataElement) {
	codeTyped(c, 0, &e.Type, &e.Value)
}
