package spnego

import (
	"errors"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// errInit is a NegTokenInit that cannot be read.
var errInit = errors.New("malformed SPNEGO NegTokenInit: the peer does not speak RFC 4178 here")

// NegTokenInit is what an initiator sends first.
//
//	NegTokenInit ::= SEQUENCE {
//	    mechTypes       [0] MechTypeList,
//	    reqFlags        [1] ContextFlags  OPTIONAL,
//	    mechToken       [2] OCTET STRING  OPTIONAL,
//	    mechListMIC     [3] OCTET STRING  OPTIONAL,
//	    ...
//	}
//	MechTypeList ::= SEQUENCE OF MechType
//	MechType ::= OBJECT IDENTIFIER
//
// (RFC 4178 4.2.1.) A NegTokenInit2 is what Windows and Samba send as a hint where the acceptor speaks first; it
// differs in its end ([MS-SPNG] 2.2.1):
//
//	    negHints        [3] NegHints      OPTIONAL,
//	    mechListMIC     [4] OCTET STRING  OPTIONAL,
//	NegHints ::= SEQUENCE {
//	    hintName        [0] GeneralString OPTIONAL,
//	    hintAddress     [1] OCTET STRING  OPTIONAL
//	}
type NegTokenInit struct {
	// MechTypes are the mechanisms offered, best first.
	MechTypes []OID
	// RawMechTypes is the encoding of MechTypes as it was read: what a mechListMIC covers. Append ignores it.
	RawMechTypes []byte
	// ReqFlags is the content of the BIT STRING. RFC 4178 says to send none and to ignore it.
	ReqFlags []byte
	// MechToken is the first token of MechTypes[0]; nil if there is none.
	MechToken []byte
	// MechListMIC is nil if there is none.
	MechListMIC []byte
	// HintName is of a NegTokenInit2 only; Append ignores it.
	HintName string
}

// AppendInitPrefix appends all of a NegTokenInit that precedes its mechToken, of which only the length is known: the GSS-API
// header with SPNEGO's OID (RFC 2743 3.1), Kerberos as the one mechanism, and the header of the mechToken, which is the last
// field and may therefore be appended as it is.
func AppendInitPrefix(dst []byte, mechTokenLen int) []byte {
	return appendInitPrefix(dst, []OID{KRB5}, nil, mechTokenLen, 0)
}

// appendInitPrefix is AppendInitPrefix for any mechanisms and flags, with n octets of further fields after the token.
func appendInitPrefix(dst []byte, mechTypes []OID, reqFlags []byte, mechTokenLen, n int) []byte {
	fields := der.AppendField(nil, 0, appendMechTypes, mechTypes)
	if reqFlags != nil {
		fields = der.AppendField(fields, 1, appendBitString, reqFlags)
	}
	content := len(fields) + n
	var octets int // length of the mechToken as an OCTET STRING
	if mechTokenLen >= 0 {
		octets = der.HeaderLen(mechTokenLen) + mechTokenLen
		content += der.HeaderLen(octets) + octets
	}
	sequence := der.HeaderLen(content) + content
	choice := der.HeaderLen(sequence) + sequence
	dst = der.AppendHeader(dst, der.Application(0), der.HeaderLen(len(SPNEGO))+len(SPNEGO)+choice)
	dst = appendOID(dst, SPNEGO)
	dst = der.AppendHeader(dst, der.Context(0), sequence)
	dst = der.AppendHeader(dst, der.TagSequence, content)
	dst = append(dst, fields...)
	if mechTokenLen >= 0 {
		dst = der.AppendHeader(dst, der.Context(2), octets)
		dst = der.AppendHeader(dst, der.TagOctetString, mechTokenLen)
	}
	return dst
}

// Append appends the token with its GSS-API header.
func (t *NegTokenInit) Append(dst []byte) []byte {
	var mic []byte
	if t.MechListMIC != nil {
		mic = der.AppendField(nil, 3, der.AppendOctetString, t.MechListMIC)
	}
	tokenLen := -1
	if t.MechToken != nil {
		tokenLen = len(t.MechToken)
	}
	dst = appendInitPrefix(dst, t.MechTypes, t.ReqFlags, tokenLen, len(mic))
	dst = append(dst, t.MechToken...)
	return append(dst, mic...)
}

// ParseInit reads a NegTokenInit or NegTokenInit2 with its GSS-API header. What it returns aliases b.
func ParseInit(b []byte) (*NegTokenInit, error) {
	s := der.String(b)
	var frame, choice, fields der.String
	var mech []byte
	if !der.ReadElement(&s, der.Application(0), &frame) || !s.Empty() ||
		!der.ReadOID(&frame, &mech) || OID(mech) != SPNEGO ||
		!der.ReadElement(&frame, der.Context(0), &choice) || !frame.Empty() ||
		!der.ReadSequence(&choice, &fields) || !choice.Empty() {
		return nil, errInit
	}
	t := new(NegTokenInit)
	if !der.ReadField(&fields, 0, der.ReadRaw, &t.RawMechTypes) {
		return nil, errInit
	}
	list := der.String(t.RawMechTypes)
	if !der.ReadSequenceOf(readOID)(&list, &t.MechTypes) ||
		!der.ReadOptional(&fields, 1, readBitString, &t.ReqFlags) ||
		!der.ReadOptional(&fields, 2, der.ReadOctets, &t.MechToken) ||
		!der.ReadOptional(&fields, 3, t.readMICOrHints, &t.MechListMIC) ||
		!der.ReadOptional(&fields, 4, der.ReadOctets, &t.MechListMIC) ||
		!der.SkipUnknown(&fields, 4) {
		return nil, errInit
	}
	return t, nil
}

// readMICOrHints reads field [3]: the mechListMIC of RFC 4178, or the negHints of [MS-SPNG], told apart by their tags.
func (t *NegTokenInit) readMICOrHints(s *der.String, mic *[]byte) bool {
	if !der.Next(s, der.TagSequence) {
		return der.ReadOctets(s, mic)
	}
	var hints der.String
	var address []byte
	return der.ReadSequence(s, &hints) &&
		der.ReadOptional(&hints, 0, der.ReadGeneralString, &t.HintName) &&
		der.ReadOptional(&hints, 1, der.ReadOctets, &address) &&
		der.SkipUnknown(&hints, 1)
}

var appendMechTypes = der.AppendSequenceOf(appendOID)

func appendOID(dst []byte, o OID) []byte { return der.AppendOID(dst, []byte(o)) }

func readOID(s *der.String, o *OID) bool {
	var content []byte
	ok := der.ReadOID(s, &content)
	*o = OID(content)
	return ok
}

func appendBitString(dst, content []byte) []byte {
	return der.AppendBytes(dst, der.TagBitString, content)
}

func readBitString(s *der.String, content *[]byte) bool {
	var bits der.String
	ok := der.ReadElement(s, der.TagBitString, &bits)
	*content = bits
	return ok
}
