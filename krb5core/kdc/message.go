package kdc

import "github.com/caddy-negotiate/caddy-negotiate/internal/der"

const (
	// krbErrResponseTooBig is KRB_ERR_RESPONSE_TOO_BIG, RFC 4120 section 7.5.9.
	krbErrResponseTooBig = 52
	// tagKRBError is the application tag of KRB-ERROR, and codeField the field
	// of its error-code: RFC 4120 section 5.9.1.
	tagKRBError = 30
	codeField   = 6
)

// isMessage tells whether b is framed as all Kerberos messages are: one element
// of the application class that fills b.
func isMessage(b []byte) bool {
	input := der.String(b)
	if len(b) == 0 || b[0]&0xe0 != byte(der.Application(0)) {
		return false
	}
	var content der.String
	return der.ReadElement(&input, der.Tag(b[0]), &content) && input.Empty()
}

// isTooBig tells whether b is a KRB-ERROR that says that the reply does not fit
// a datagram. What is not understood is left to the caller of Send.
//
//	KRB-ERROR ::= [APPLICATION 30] SEQUENCE {
//	    pvno [0], msg-type [1], ctime [2] OPTIONAL, cusec [3] OPTIONAL,
//	    stime [4], susec [5], error-code [6] Int32, ...
//	}
func isTooBig(b []byte) bool {
	input := der.String(b)
	var body, fields der.String
	if !der.ReadElement(&input, der.Application(tagKRBError), &body) || !der.ReadSequence(&body, &fields) {
		return false
	}
	var code int32
	for !fields.Empty() && !der.Next(&fields, der.Context(codeField)) {
		var skipped []byte
		if !der.ReadRaw(&fields, &skipped) {
			return false
		}
	}
	return der.ReadField(&fields, codeField, der.ReadInt32[int32], &code) && code == krbErrResponseTooBig
}
