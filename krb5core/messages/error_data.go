package messages

import (
	"encoding/binary"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// ErrorData is what the e-data of a KRBError was found to hold. Which form that is depends on the
// sender more than on the error code.
type ErrorData struct {
	PAData MethodData // METHOD-DATA, or TYPED-DATA, whose types come from the same registry
	Status NTStatus   // the reason that Windows or Samba add, 0 if absent
	Err    error      // e-data that is of no known form; the error itself counts
}

// Data decodes e-data. It never fails: what cannot be decoded is reported in Err.
func (e *KRBError) Data() ErrorData {
	if len(e.EData) == 0 {
		return ErrorData{}
	}
	// MIT, Heimdal and Samba send METHOD-DATA with every error that has any (RFC 6113, Section 2
	// asks for it), Windows a lone KERB-ERROR-DATA; TYPED-DATA is RFC 4120's. The first tags of the
	// three differ, so that none is taken for another.
	if m, err := ParseMethodData(e.EData); err == nil {
		data := ErrorData{PAData: m}
		// Samba and Windows put an extended error where an error has no use for a salt ([MS-KILE],
		// Section 2.2.1).
		if v, ok := m.Find(PA_PW_SALT); ok {
			data.Status = extendedStatus(v)
		}
		return data
	}
	if t, err := ParseTypedData(e.EData); err == nil {
		return ErrorData{PAData: MethodData(t)}
	}
	k, err := ParseKerbErrorData(e.EData)
	if err != nil {
		return ErrorData{Err: fmt.Errorf("%w: e-data of %d bytes has no known form", ErrMalformed, len(e.EData))}
	}
	if k.DataType == KERB_ERR_TYPE_EXTENDED {
		return ErrorData{Status: extendedStatus(k.DataValue)}
	}
	return ErrorData{} // KERB_AP_ERR_TYPE_SKEW_RECOVERY says no more than the error's code
}

// The data types of KerbErrorData.
const (
	KERB_AP_ERR_TYPE_SKEW_RECOVERY = 2
	KERB_ERR_TYPE_EXTENDED         = 3 // data-value: NTSTATUS, reserved, flags, each 32 bits, little endian
)

// KerbErrorData is the e-data of Windows.
//
//	KERB-ERROR-DATA ::= SEQUENCE {
//	        data-type               [1] INTEGER,
//	        data-value              [2] OCTET STRING OPTIONAL
//	}
//
// ([MS-KILE], Section 2.2.1)
type KerbErrorData struct {
	DataType  int32
	DataValue []byte
}

func ParseKerbErrorData(b []byte) (*KerbErrorData, error) {
	return parse(b, "KERB-ERROR-DATA", codeKerbErrorData)
}

func (k *KerbErrorData) Marshal() []byte { return der.AppendCoded(nil, codeKerbErrorData, k) }

func codeKerbErrorData(c *der.Codec, k *KerbErrorData) {
	c.Sequence(func() {
		der.Field(c, 1, der.Int32, &k.DataType)
		der.Optional(c, 2, k.DataValue != nil, der.Octets, &k.DataValue)
	})
}

// extendedLen is the length of an extended error: status, reserved, flags ([MS-KILE], Section
// 2.2.2, KERB-EXT-ERROR).
const extendedLen = 12

// ExtendedError is the data-value of KERB_ERR_TYPE_EXTENDED for a status.
func ExtendedError(s NTStatus) []byte {
	b := make([]byte, extendedLen)
	binary.LittleEndian.PutUint32(b, uint32(s))
	b[8] = 1
	return b
}

// extendedStatus is the status of an extended error, or 0 for what is none. A status that refuses
// has severity 3, so its highest byte is at least 0xc0: a salt of the same length is not taken for
// one.
func extendedStatus(b []byte) NTStatus {
	if len(b) != extendedLen || b[3] < 0xc0 {
		return 0
	}
	return NTStatus(binary.LittleEndian.Uint32(b))
}

// NTStatus is a Windows status code ([MS-ERREF], Section 2.3), of those that KDCs attach to their
// errors.
type NTStatus uint32

// The statuses of refused logins.
const (
	STATUS_ACCOUNT_RESTRICTION      NTStatus = 0xc000006e
	STATUS_INVALID_LOGON_HOURS      NTStatus = 0xc000006f
	STATUS_INVALID_WORKSTATION      NTStatus = 0xc0000070
	STATUS_PASSWORD_EXPIRED         NTStatus = 0xc0000071
	STATUS_ACCOUNT_DISABLED         NTStatus = 0xc0000072
	STATUS_ACCOUNT_EXPIRED          NTStatus = 0xc0000193
	STATUS_PASSWORD_MUST_CHANGE     NTStatus = 0xc0000224
	STATUS_ACCOUNT_LOCKED_OUT       NTStatus = 0xc0000234
	STATUS_SMARTCARD_LOGON_REQUIRED NTStatus = 0xc00002fa
)

var ntStatuses = map[NTStatus]struct{ name, meaning string }{
	0xc0000064: {"STATUS_NO_SUCH_USER", "there is no such account"},
	0xc000006a: {"STATUS_WRONG_PASSWORD", "the password is wrong"},
	0xc000006d: {"STATUS_LOGON_FAILURE", "name or password is wrong"},
	0xc000006e: {"STATUS_ACCOUNT_RESTRICTION", "an account restriction or authentication policy forbids the login"},
	0xc000006f: {"STATUS_INVALID_LOGON_HOURS", "the account may not log in at this hour"},
	0xc0000070: {"STATUS_INVALID_WORKSTATION", "the account may not log in from this machine"},
	0xc0000071: {"STATUS_PASSWORD_EXPIRED", "the password has expired"},
	0xc0000072: {"STATUS_ACCOUNT_DISABLED", "the account is disabled"},
	0xc000005e: {"STATUS_NO_LOGON_SERVERS", "the KDC reaches no domain controller that could decide"},
	0xc0000133: {"STATUS_TIME_DIFFERENCE_AT_DC", "the clocks differ too much"},
	0xc0000272: {"STATUS_NO_MATCH", "the delegation policy of the target does not name this account"},
	0xc000018b: {"STATUS_NO_TRUST_SAM_ACCOUNT", "the domain has no account for this machine or trust"},
	0xc0000193: {"STATUS_ACCOUNT_EXPIRED", "the account has expired"},
	0xc0000224: {"STATUS_PASSWORD_MUST_CHANGE", "the password must be changed before the first login"},
	0xc0000234: {"STATUS_ACCOUNT_LOCKED_OUT", "the account is locked after too many wrong passwords"},
	0xc000040b: {"STATUS_CROSSREALM_DELEGATION_FAILURE", "delegation does not cross this trust"},
	0xc00002fa: {"STATUS_SMARTCARD_LOGON_REQUIRED", "the account must log in with a smart card"},
	0xc0000413: {"STATUS_AUTHENTICATION_FIREWALL_FAILED", "the machine is protected by an authentication firewall that this account may not pass"},
	0xc00000bb: {"STATUS_NOT_SUPPORTED", "the KDC does not support the request"},
	0xc000009a: {"STATUS_INSUFFICIENT_RESOURCES", "the KDC has not enough resources"},
	0xc000000d: {"STATUS_INVALID_PARAMETER", "the request has an invalid parameter"},
}

func (s NTStatus) String() string {
	if e, ok := ntStatuses[s]; ok {
		return e.name
	}
	return fmt.Sprintf("NTSTATUS 0x%08x", uint32(s))
}

// Meaning says in a few words what the status means, "" for an unknown one.
func (s NTStatus) Meaning() string { return ntStatuses[s].meaning }
