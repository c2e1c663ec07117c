package messages

import (
	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// ETypeInfo2 lists, in the KDC's order of preference, how a client derives a key from its password.
//
//	ETYPE-INFO2             ::= SEQUENCE SIZE (1..MAX) OF ETYPE-INFO2-ENTRY
//
// (RFC 4120, Section 5.2.7.5)
type ETypeInfo2 []ETypeInfo2Entry

// ETypeInfo2Entry is about one encryption type.
//
//	ETYPE-INFO2-ENTRY       ::= SEQUENCE {
//	        etype           [0] Int32,
//	        salt            [1] KerberosString OPTIONAL,
//	        s2kparams       [2] OCTET STRING OPTIONAL
//	}
//
// (RFC 4120, Section 5.2.7.5)
type ETypeInfo2Entry struct {
	EType     enctype.ID
	Salt      string // of no meaning unless HasSalt; without one, the default salt
	HasSalt   bool
	S2KParams []byte // nil: the encryption type's default
}

// ParseETypeInfo2 reads an ETYPE-INFO2, the value of PA_ETYPE_INFO2.
func ParseETypeInfo2(b []byte) (ETypeInfo2, error) {
	return parseValue(b, "ETYPE-INFO2", codeETypeInfo2)
}

func (i ETypeInfo2) Marshal() []byte { return der.AppendCoded(nil, codeETypeInfo2, &i) }

func codeETypeInfo2(c *der.Codec, i *ETypeInfo2) { der.List(c, codeETypeInfo2Entry, i) }

func codeETypeInfo2Entry(c *der.Codec, e *ETypeInfo2Entry) {
	c.Sequence(func() {
		der.Field(c, 0, der.Int32, &e.EType)
		der.OptionalHas(c, 1, &e.HasSalt, der.GeneralString, &e.Salt)
		der.Optional(c, 2, e.S2KParams != nil, der.Octets, &e.S2KParams)
	})
}

// ETypeInfo is the older form of ETypeInfo2, sent by KDCs to clients that offer none of the newer
// encryption types.
//
//	ETYPE-INFO              ::= SEQUENCE OF ETYPE-INFO-ENTRY
//
// (RFC 4120, Section 5.2.7.4)
type ETypeInfo []ETypeInfoEntry

// ETypeInfoEntry is about one encryption type.
//
//	ETYPE-INFO-ENTRY        ::= SEQUENCE {
//	        etype           [0] Int32,
//	        salt            [1] OCTET STRING OPTIONAL
//	}
//
// (RFC 4120, Section 5.2.7.4)
type ETypeInfoEntry struct {
	EType enctype.ID
	Salt  []byte // nil: the default salt
}

// ParseETypeInfo reads an ETYPE-INFO, the value of PA_ETYPE_INFO.
func ParseETypeInfo(b []byte) (ETypeInfo, error) {
	return parseValue(b, "ETYPE-INFO", codeETypeInfo)
}

func (i ETypeInfo) Marshal() []byte { return der.AppendCoded(nil, codeETypeInfo, &i) }

func codeETypeInfo(c *der.Codec, i *ETypeInfo) { der.List(c, codeETypeInfoEntry, i) }

func codeETypeInfoEntry(c *der.Codec, e *ETypeInfoEntry) {
	c.Sequence(func() {
		der.Field(c, 0, der.Int32, &e.EType)
		der.Optional(c, 1, e.Salt != nil, der.Octets, &e.Salt)
	})
}
