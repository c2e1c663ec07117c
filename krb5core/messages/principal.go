package messages

import (
	"slices"
	"strconv"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// NameType hints at what a principal name is of. It is no part of the name: names that differ in type only are equal
// (RFC 4120 6.2).
type NameType int32

// The name types of RFC 4120 7.5.8 and 6806 5, RFC 6111 3.1, and [MS-KILE] 3.1.5.8.
const (
	KRB_NT_UNKNOWN              NameType = 0
	KRB_NT_PRINCIPAL            NameType = 1
	KRB_NT_SRV_INST             NameType = 2
	KRB_NT_SRV_HST              NameType = 3
	KRB_NT_SRV_XHST             NameType = 4
	KRB_NT_UID                  NameType = 5
	KRB_NT_X500_PRINCIPAL       NameType = 6
	KRB_NT_SMTP_NAME            NameType = 7
	KRB_NT_ENTERPRISE           NameType = 10
	KRB_NT_WELLKNOWN            NameType = 11
	KRB_NT_SRV_HST_DOMAIN       NameType = 12
	KRB_NT_MS_PRINCIPAL         NameType = -128
	KRB_NT_MS_PRINCIPAL_AND_ID  NameType = -129
	KRB_NT_ENT_PRINCIPAL_AND_ID NameType = -130
)

// First components with a meaning.
const (
	tgsName       = "krbtgt"    // RFC 4120 7.3
	wellKnownName = "WELLKNOWN" // RFC 6111 3.1
)

var nameTypeNames = map[NameType]string{
	KRB_NT_UNKNOWN: "KRB_NT_UNKNOWN", KRB_NT_PRINCIPAL: "KRB_NT_PRINCIPAL", KRB_NT_SRV_INST: "KRB_NT_SRV_INST",
	KRB_NT_SRV_HST: "KRB_NT_SRV_HST", KRB_NT_SRV_XHST: "KRB_NT_SRV_XHST", KRB_NT_UID: "KRB_NT_UID",
	KRB_NT_X500_PRINCIPAL: "KRB_NT_X500_PRINCIPAL", KRB_NT_SMTP_NAME: "KRB_NT_SMTP_NAME",
	KRB_NT_ENTERPRISE: "KRB_NT_ENTERPRISE", KRB_NT_WELLKNOWN: "KRB_NT_WELLKNOWN",
	KRB_NT_SRV_HST_DOMAIN: "KRB_NT_SRV_HST_DOMAIN", KRB_NT_MS_PRINCIPAL: "KRB_NT_MS_PRINCIPAL",
	KRB_NT_MS_PRINCIPAL_AND_ID: "KRB_NT_MS_PRINCIPAL_AND_ID", KRB_NT_ENT_PRINCIPAL_AND_ID: "KRB_NT_ENT_PRINCIPAL_AND_ID",
}

// String is the registered name, or the number of a type that has none.
func (t NameType) String() string {
	if name, ok := nameTypeNames[t]; ok {
		return name
	}
	return strconv.Itoa(int(t))
}

// PrincipalName is a name within a realm.
//
//	PrincipalName ::= SEQUENCE {
//	        name-type       [0] Int32,
//	        name-string     [1] SEQUENCE OF KerberosString
//	}
//
// (RFC 4120 5.2.2)
type PrincipalName struct {
	NameType   NameType
	NameString []string // the components, in the octets of the wire
}

// NewPrincipalName makes a name of its components.
func NewPrincipalName(t NameType, components ...string) PrincipalName {
	return PrincipalName{NameType: t, NameString: components}
}

// TGSName is the name of the ticket-granting service for a realm, krbtgt/REALM (RFC 4120 7.3).
func TGSName(realm string) PrincipalName {
	return PrincipalName{NameType: KRB_NT_SRV_INST, NameString: []string{tgsName, realm}}
}

// IsZero tells whether the name is absent.
func (n PrincipalName) IsZero() bool { return n.NameType == 0 && n.NameString == nil }

// Equal tells whether both names have the same components; letter case counts, the type does not (RFC 4120 6.2).
func (n PrincipalName) Equal(other PrincipalName) bool {
	return slices.Equal(n.NameString, other.NameString)
}

// IsTGS tells whether the name is that of a ticket-granting service, and of which realm.
func (n PrincipalName) IsTGS() (realm string, ok bool) {
	if len(n.NameString) != 2 || n.NameString[0] != tgsName {
		return "", false
	}
	return n.NameString[1], true
}

// Append appends the DER encoding.
func (n PrincipalName) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, n.NameType)
		return der.AppendField(dst, 1, der.AppendSequenceOf(der.AppendGeneralString), n.NameString)
	})
}

func readPrincipalName(s *der.String, n *PrincipalName) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadInt32, &n.NameType) &&
		der.ReadField(&seq, 1, der.ReadSequenceOf(der.ReadGeneralString), &n.NameString) &&
		der.SkipUnknown(&seq, 1)
}

// appendOptionalName writes a name under [n] unless it is absent.
func appendOptionalName(dst []byte, n uint8, name PrincipalName) []byte {
	if name.IsZero() {
		return dst
	}
	return der.AppendField(dst, n, der.AppendValue, name)
}
