package messages

import (
	"slices"
	"strconv"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// NameType is a hint about the kind of a principal name. It is no part of the name: names that
// differ in type only are equal (RFC 4120, Section 6.2).
type NameType int32

// The name types in use here.
const (
	KRB_NT_PRINCIPAL  NameType = 1
	KRB_NT_SRV_INST   NameType = 2
	KRB_NT_SRV_HST    NameType = 3
	KRB_NT_ENTERPRISE NameType = 10
	KRB_NT_WELLKNOWN  NameType = 11
)

// First components with a meaning.
const (
	tgsName       = "krbtgt"    // RFC 4120, Section 7.3
	wellKnownName = "WELLKNOWN" // RFC 6111, Section 3.1
)

// nameTypeNames has the name types of RFC 4120, Section 7.5.8 and RFC 6806, Section 5, RFC 6111,
// Section 3.1, and [MS-KILE], Section 3.1.5.8.
var nameTypeNames = map[NameType]string{
	0: "KRB_NT_UNKNOWN", 1: "KRB_NT_PRINCIPAL", 2: "KRB_NT_SRV_INST", 3: "KRB_NT_SRV_HST", 4: "KRB_NT_SRV_XHST",
	5: "KRB_NT_UID", 6: "KRB_NT_X500_PRINCIPAL", 7: "KRB_NT_SMTP_NAME", 10: "KRB_NT_ENTERPRISE",
	11: "KRB_NT_WELLKNOWN", 12: "KRB_NT_SRV_HST_DOMAIN", -128: "KRB_NT_MS_PRINCIPAL",
	-129: "KRB_NT_MS_PRINCIPAL_AND_ID", -130: "KRB_NT_ENT_PRINCIPAL_AND_ID",
}

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
// (RFC 4120, Section 5.2.2)
type PrincipalName struct {
	NameType   NameType
	NameString []string // the components, in the bytes of the wire
}

// NewPrincipalName returns a name of these components.
func NewPrincipalName(t NameType, components ...string) PrincipalName {
	return PrincipalName{NameType: t, NameString: components}
}

// TGSName is the name of the ticket-granting service for a realm, krbtgt/REALM (RFC 4120, Section
// 7.3).
func TGSName(realm string) PrincipalName {
	return PrincipalName{NameType: KRB_NT_SRV_INST, NameString: []string{tgsName, realm}}
}

// IsZero reports whether the name is absent.
func (n PrincipalName) IsZero() bool { return n.NameType == 0 && n.NameString == nil }

// Equal reports whether both names have the same components; letter case counts, the type does not
// (RFC 4120, Section 6.2).
func (n PrincipalName) Equal(other PrincipalName) bool {
	return slices.Equal(n.NameString, other.NameString)
}

// IsTGS reports whether the name is that of a ticket-granting service, and of which realm.
func (n PrincipalName) IsTGS() (realm string, ok bool) {
	if len(n.NameString) != 2 || n.NameString[0] != tgsName {
		return "", false
	}
	return n.NameString[1], true
}

func codePrincipalName(c *der.Codec, n *PrincipalName) {
	c.Sequence(func() {
		der.Field(c, 0, der.Int32, &n.NameType)
		der.Field(c, 1, der.ListOf(der.GeneralString), &n.NameString)
	})
}
