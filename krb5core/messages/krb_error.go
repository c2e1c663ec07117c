package messages

import (
	"fmt"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// KRBError is the refusal of a KDC or a service. It is not authenticated: what it says is a hint.
// It is an error; use errors.As.
//
//	KRB-ERROR       ::= [APPLICATION 30] SEQUENCE {
//	        pvno            [0] INTEGER (5),
//	        msg-type        [1] INTEGER (30),
//	        ctime           [2] KerberosTime OPTIONAL,
//	        cusec           [3] Microseconds OPTIONAL,
//	        stime           [4] KerberosTime,
//	        susec           [5] Microseconds,
//	        error-code      [6] Int32,
//	        crealm          [7] Realm OPTIONAL,
//	        cname           [8] PrincipalName OPTIONAL,
//	        realm           [9] Realm -- service realm --,
//	        sname           [10] PrincipalName -- service name --,
//	        e-text          [11] KerberosString OPTIONAL,
//	        e-data          [12] OCTET STRING OPTIONAL
//	}
//
// (RFC 4120, Section 5.9.1)
type KRBError struct {
	CTime     time.Time
	CUSec     int32 // microseconds; written when it or CTime is not zero
	STime     time.Time
	SUSec     int32 // microseconds
	ErrorCode ErrorCode
	CRealm    string // of the client; for KDC_ERR_WRONG_REALM, where to go (RFC 6806, Section 7)
	CName     PrincipalName
	Realm     string // of the service
	SName     PrincipalName
	EText     string
	EData     []byte // see Data
}

// ParseKRBError reads a KRB-ERROR. What its e-data holds does not matter to it.
func ParseKRBError(b []byte) (*KRBError, error) { return parseBER(b, "KRB-ERROR", codeKRBError) }

// Code is the error code.
func (e *KRBError) Code() ErrorCode { return e.ErrorCode }

// ServerTime is the time on the sender's clock, to the microsecond.
func (e *KRBError) ServerTime() time.Time {
	return e.STime.Add(time.Duration(e.SUSec) * time.Microsecond)
}

// Error returns code, meaning, what Windows or Samba add to it, and the sender's text, quoted.
func (e *KRBError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%d)", e.ErrorCode, int32(e.ErrorCode))
	if meaning := e.ErrorCode.Meaning(); meaning != "" {
		b.WriteString(": " + meaning)
	}
	if status := e.Data().Status; status != 0 {
		b.WriteString(", " + status.String())
		if meaning := status.Meaning(); meaning != "" {
			b.WriteString(": " + meaning)
		}
	}
	if e.EText != "" {
		fmt.Fprintf(&b, " (server says %q)", e.EText)
	}
	return b.String()
}

func (e *KRBError) Marshal() []byte { return der.AppendCoded(nil, codeKRBError, e) }

func codeKRBError(c *der.Codec, e *KRBError) {
	c.Application(uint8(KRB_ERROR), func() {
		c.Const(0, PVNO)
		c.Const(1, int32(KRB_ERROR))
		der.Optional(c, 2, !e.CTime.IsZero(), der.Time, &e.CTime)
		der.Optional(c, 3, e.CUSec != 0 || !e.CTime.IsZero(), der.Int32, &e.CUSec)
		der.Field(c, 4, der.Time, &e.STime)
		der.Field(c, 5, der.Int32, &e.SUSec)
		der.Field(c, 6, der.Int32, &e.ErrorCode)
		der.Optional(c, 7, e.CRealm != "", der.GeneralString, &e.CRealm)
		der.Optional(c, 8, !e.CName.IsZero(), codePrincipalName, &e.CName)
		der.Field(c, 9, der.GeneralString, &e.Realm)
		der.Field(c, 10, codePrincipalName, &e.SName)
		der.Optional(c, 11, e.EText != "", der.GeneralString, &e.EText)
		der.Optional(c, 12, e.EData != nil, der.Octets, &e.EData)
	})
}
