package messages

import (
	"fmt"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// KRBError is the refusal of a KDC or a service. It is not authenticated: what it says is a hint. It is an error; use errors.As.
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
// (RFC 4120 5.9.1)
type KRBError struct {
	CTime     time.Time
	CUSec     int32 // microseconds; written when it or CTime is not zero
	STime     time.Time
	SUSec     int32 // microseconds
	ErrorCode ErrorCode
	CRealm    string // of the client; for KDC_ERR_WRONG_REALM, where to go (RFC 6806 7)
	CName     PrincipalName
	Realm     string // of the service
	SName     PrincipalName
	EText     string
	EData     []byte // see Data
}

// ParseKRBError reads a KRB-ERROR. What its e-data holds does not matter to it.
func ParseKRBError(b []byte) (*KRBError, error) { return parse(b, "KRB-ERROR", readKRBError) }

// Code is the error code.
func (e *KRBError) Code() ErrorCode { return e.ErrorCode }

// ServerTime is the time on the clock of whoever sent the error, to the microsecond.
func (e *KRBError) ServerTime() time.Time {
	return e.STime.Add(time.Duration(e.SUSec) * time.Microsecond)
}

// Error tells code, meaning, what Windows or Samba add to it, and the sender's text, quoted.
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

// Append appends the DER encoding.
func (e *KRBError) Append(dst []byte) []byte {
	return appendApplication(dst, uint8(KRB_ERROR), func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, PVNO)
		dst = der.AppendField(dst, 1, der.AppendInt, KRB_ERROR)
		dst = der.AppendOptionalTime(dst, 2, e.CTime)
		if !e.CTime.IsZero() || e.CUSec != 0 {
			dst = der.AppendField(dst, 3, der.AppendInt, e.CUSec)
		}
		dst = der.AppendField(dst, 4, der.AppendTime, e.STime)
		dst = der.AppendField(dst, 5, der.AppendInt, e.SUSec)
		dst = der.AppendField(dst, 6, der.AppendInt, e.ErrorCode)
		if e.CRealm != "" {
			dst = der.AppendField(dst, 7, der.AppendGeneralString, e.CRealm)
		}
		dst = appendOptionalName(dst, 8, e.CName)
		dst = der.AppendField(dst, 9, der.AppendGeneralString, e.Realm)
		dst = der.AppendField(dst, 10, der.AppendValue, e.SName)
		if e.EText != "" {
			dst = der.AppendField(dst, 11, der.AppendGeneralString, e.EText)
		}
		if e.EData != nil {
			dst = der.AppendField(dst, 12, der.AppendOctetString, e.EData)
		}
		return dst
	})
}

// Marshal returns the DER encoding.
func (e *KRBError) Marshal() []byte { return e.Append(nil) }

func readKRBError(s *der.String, e *KRBError) bool {
	var seq der.String
	return readApplication(s, uint8(KRB_ERROR), &seq) &&
		readConst(&seq, 0, PVNO) &&
		readConst(&seq, 1, int32(KRB_ERROR)) &&
		der.ReadOptional(&seq, 2, der.ReadTime, &e.CTime) &&
		der.ReadOptional(&seq, 3, der.ReadInt32, &e.CUSec) &&
		der.ReadField(&seq, 4, der.ReadTime, &e.STime) &&
		der.ReadField(&seq, 5, der.ReadInt32, &e.SUSec) &&
		der.ReadField(&seq, 6, der.ReadInt32, &e.ErrorCode) &&
		der.ReadOptional(&seq, 7, der.ReadGeneralString, &e.CRealm) &&
		der.ReadOptional(&seq, 8, readPrincipalName, &e.CName) &&
		der.ReadField(&seq, 9, der.ReadGeneralString, &e.Realm) &&
		der.ReadField(&seq, 10, readPrincipalName, &e.SName) &&
		der.ReadOptional(&seq, 11, der.ReadGeneralString, &e.EText) &&
		der.ReadOptional(&seq, 12, der.ReadOctets, &e.EData) &&
		der.SkipUnknown(&seq, 12)
}
