package messages

import (
	"fmt"
	"strings"
)

// KDCOptions are the flags of a request to a KDC. Bit 0 of the RFC is the highest.
//
//	KDCOptions ::= KerberosFlags
//
// (RFC 4120, Section 5.4.1; canonicalize: RFC 6806, Section 3; request-anonymous: RFC 8062, Section
// 3; cname-in-addl-tkt: [MS-SFU], Section 2.2.3)
type KDCOptions uint32

// The bits of KDCOptions.
const (
	KDC_OPT_FORWARDABLE             KDCOptions = 0x40000000
	KDC_OPT_FORWARDED               KDCOptions = 0x20000000
	KDC_OPT_PROXIABLE               KDCOptions = 0x10000000
	KDC_OPT_PROXY                   KDCOptions = 0x08000000
	KDC_OPT_POSTDATED               KDCOptions = 0x02000000
	KDC_OPT_RENEWABLE               KDCOptions = 0x00800000
	KDC_OPT_CNAME_IN_ADDL_TKT       KDCOptions = 0x00020000
	KDC_OPT_CANONICALIZE            KDCOptions = 0x00010000
	KDC_OPT_REQUEST_ANONYMOUS       KDCOptions = 0x00008000
	KDC_OPT_DISABLE_TRANSITED_CHECK KDCOptions = 0x00000020
	KDC_OPT_RENEWABLE_OK            KDCOptions = 0x00000010
	KDC_OPT_ENC_TKT_IN_SKEY         KDCOptions = 0x00000008
	KDC_OPT_RENEW                   KDCOptions = 0x00000002
	KDC_OPT_VALIDATE                KDCOptions = 0x00000001
)

func (o KDCOptions) String() string {
	return flagNames(uint32(o), map[int]string{
		1: "forwardable", 2: "forwarded", 3: "proxiable", 4: "proxy", 5: "allow-postdate", 6: "postdated", 8: "renewable",
		14: "cname-in-addl-tkt", 15: "canonicalize", 16: "request-anonymous", 26: "disable-transited-check",
		27: "renewable-ok", 28: "enc-tkt-in-skey", 30: "renew", 31: "validate",
	})
}

// TicketFlags are the flags of a ticket. Bit 0 of the RFC is the highest.
//
//	TicketFlags ::= KerberosFlags
//
// (RFC 4120, Section 5.3; enc-pa-rep: RFC 6806, Section 11; anonymous: RFC 8062, Section 3)
type TicketFlags uint32

// The bits of TicketFlags.
const (
	TKT_FLG_FORWARDABLE              TicketFlags = 0x40000000
	TKT_FLG_FORWARDED                TicketFlags = 0x20000000
	TKT_FLG_PROXIABLE                TicketFlags = 0x10000000
	TKT_FLG_POSTDATED                TicketFlags = 0x02000000
	TKT_FLG_INVALID                  TicketFlags = 0x01000000
	TKT_FLG_RENEWABLE                TicketFlags = 0x00800000
	TKT_FLG_INITIAL                  TicketFlags = 0x00400000
	TKT_FLG_PRE_AUTHENT              TicketFlags = 0x00200000
	TKT_FLG_HW_AUTHENT               TicketFlags = 0x00100000
	TKT_FLG_TRANSITED_POLICY_CHECKED TicketFlags = 0x00080000
	TKT_FLG_OK_AS_DELEGATE           TicketFlags = 0x00040000
	TKT_FLG_ENC_PA_REP               TicketFlags = 0x00010000
	TKT_FLG_ANONYMOUS                TicketFlags = 0x00008000
)

func (f TicketFlags) String() string {
	return flagNames(uint32(f), map[int]string{
		1: "forwardable", 2: "forwarded", 3: "proxiable", 4: "proxy", 5: "may-postdate", 6: "postdated", 7: "invalid",
		8: "renewable", 9: "initial", 10: "pre-authent", 11: "hw-authent", 12: "transited-policy-checked",
		13: "ok-as-delegate", 15: "enc-pa-rep", 16: "anonymous",
	})
}

// APOptions are the flags of an AP-REQ. Bit 0 of the RFC is the highest.
//
//	APOptions ::= KerberosFlags
//
// (RFC 4120, Section 5.5.1)
type APOptions uint32

// The bits of APOptions.
const (
	AP_OPTS_USE_SESSION_KEY APOptions = 0x40000000
	AP_OPTS_MUTUAL_REQUIRED APOptions = 0x20000000
)

func (o APOptions) String() string {
	return flagNames(uint32(o), map[int]string{1: "use-session-key", 2: "mutual-required"})
}

// flagNames lists the names of the bits that are set, highest first, unknown ones by their number.
func flagNames(v uint32, names map[int]string) string {
	var list []string
	for bit := range 32 {
		if v&(1<<31>>bit) == 0 {
			continue
		}
		name, ok := names[bit]
		if !ok {
			name = fmt.Sprintf("bit-%d", bit)
		}
		list = append(list, name)
	}
	return strings.Join(list, ",")
}
