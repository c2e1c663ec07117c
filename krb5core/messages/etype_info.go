package messages

import (
	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// ETypeInfo2 tells a client, in the KDC's order of preference, how to make a key of its password.
//
//	ETYPE-INFO2             ::= SEQUENCE SIZE (1..MAX) OF ETYPE-INFO2-ENTRY
//
// (RFC 4120 5.2.7.5)
type ETypeInfo2 []ETypeInfo2Entry

// ETypeInfo2Entry is about one encryption type.
//
//	ETYPE-INFO2-ENTRY       ::= SEQUENCE {
//	        etype           [0] Int32,
//	        salt            [1] KerberosString OPTIONAL,
//	        s2kparams       [2] OCTET STRING OPTIONAL
//	}
//
// (RFC 4120 5.2.7.5)
type ETypeInfo2Entry struct {
	EType     enctype.ID
	Salt      string // of no meaning unless HasSalt; without one, the default salt
	HasSalt   bool
	S2KParams []byte // nil: the encryption type's default
}

// ParseETypeInfo2 reads an ETYPE-INFO2, the value of PA_ETYPE_INFO2.
func ParseETypeInfo2(b []byte) (ETypeInfo2, error) {
	info, err := parse(b, "ETYPE-INFO2", readETypeInfo2)
	if err != nil {
		return nil, err
	}
	return *info, nil
}

// Append appends the DER encoding.
func (i ETypeInfo2) Append(dst []byte) []byte {
	return der.AppendSequenceOf(der.AppendValue[ETypeInfo2Entry])(dst, i)
}

// Marshal returns the DER encoding.
func (i ETypeInfo2) Marshal() []byte { return i.Append(nil) }

// Append appends the DER encoding.
func (e ETypeInfo2Entry) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, e.EType)
		if e.HasSalt {
			dst = der.AppendField(dst, 1, der.AppendGeneralString, e.Salt)
		}
		if e.S2KParams != nil {
			dst = der.AppendField(dst, 2, der.AppendOctetString, e.S2KParams)
		}
		return dst
	})
}

func readETypeInfo2(s *der.String, i *ETypeInfo2) bool {
	return der.ReadSequenceOf(readETypeInfo2Entry)(s, (*[]ETypeInfo2Entry)(i))
}

func readETypeInfo2Entry(s *der.String, e *ETypeInfo2Entry) bool {
	var seq der.String
	if !der.ReadSequence(s, &seq) || !der.ReadField(&seq, 0, der.ReadInt32, &e.EType) {
		return false
	}
	e.HasSalt = der.Next(&seq, der.Context(1))
	return der.ReadOptional(&seq, 1, der.ReadGeneralString, &e.Salt) &&
		der.ReadOptional(&seq, 2, der.ReadOctets, &e.S2KParams) &&
		der.SkipUnknown(&seq, 2)
}

// ETypeInfo is the older form of ETypeInfo2, sent by KDCs to clients that offer none of the newer encryption types.
//
//	ETYPE-INFO              ::= SEQUENCE OF ETYPE-INFO-ENTRY
//
// (RFC 4120 5.2.7.4)
type ETypeInfo []ETypeInfoEntry

// ETypeInfoEntry is about one encryption type.
//
//	ETYPE-INFO-ENTRY        ::= SEQUENCE {
//	        etype           [0] Int32,
//	        salt            [1] OCTET STRING OPTIONAL
//	}
//
// (RFC 4120 5.2.7.4)
type ETypeInfoEntry struct {
	EType enctype.ID
	Salt  []byte // nil: the default salt
}

// ParseETypeInfo reads an ETYPE-INFO, the value of PA_ETYPE_INFO.
func ParseETypeInfo(b []byte) (ETypeInfo, error) {
	info, err := parse(b, "ETYPE-INFO", readETypeInfo)
	if err != nil {
		return nil, err
	}
	return *info, nil
}

// Append appends the DER encoding.
func (i ETypeInfo) Append(dst []byte) []byte {
	return der.AppendSequenceOf(der.AppendValue[ETypeInfoEntry])(dst, i)
}

// Marshal returns the DER encoding.
func (i ETypeInfo) Marshal() []byte { return i.Append(nil) }

// Append appends the DER encoding.
func (e ETypeInfoEntry) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, e.EType)
		if e.Salt != nil {
			dst = der.AppendField(dst, 1, der.AppendOctetString, e.Salt)
		}
		return dst
	})
}

func readETypeInfo(s *der.String, i *ETypeInfo) bool {
	return der.ReadSequenceOf(readETypeInfoEntry)(s, (*[]ETypeInfoEntry)(i))
}

func readETypeInfoEntry(s *der.String, e *ETypeInfoEntry) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadInt32, &e.EType) &&
		der.ReadOptional(&seq, 1, der.ReadOctets, &e.Salt) &&
		der.SkipUnknown(&seq, 1)
}
