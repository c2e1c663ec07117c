package spnego

import (
	"errors"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

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
// (RFC 4178, Section 4.2.1.) A NegTokenInit2 is what Windows and Samba send as a hint where the
// acceptor speaks first; it differs in its end ([MS-SPNG], Section 2.2.1):
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
	// RawMechTypes is the encoding of MechTypes as it was read: what a mechListMIC covers.
	RawMechTypes []byte
	// MechToken is the first token of MechTypes[0]; nil if there is none.
	MechToken []byte
	// MechListMIC is nil if there is none.
	MechListMIC []byte
}

// AppendInitPrefix appends all of a NegTokenInit that precedes its mechToken, of which only the
// length is known: the GSS-API header with SPNEGO's OID (RFC 2743, Section 3.1), Kerberos as the
// one mechanism, and the header of the mechToken, which is the last field and may therefore be
// appended as it is.
func AppendInitPrefix(dst []byte, mechTokenLen int) []byte {
	mechTypes := der.AppendCoded(nil, codeMechTypes, &[]OID{KRB5})
	token := der.HeaderLen(mechTokenLen) + mechTokenLen
	content := len(mechTypes) + der.HeaderLen(token) + token
	sequence := der.HeaderLen(content) + content
	choice := der.HeaderLen(sequence) + sequence
	dst = der.AppendHeader(dst, der.Application(0), der.HeaderLen(len(SPNEGO))+len(SPNEGO)+choice)
	dst = der.AppendOID(dst, []byte(SPNEGO))
	dst = der.AppendHeader(dst, der.Context(0), sequence)
	dst = der.AppendHeader(dst, der.TagSequence, content)
	dst = append(dst, mechTypes...)
	dst = der.AppendHeader(dst, der.Context(2), token)
	return der.AppendHeader(dst, der.TagOctetString, mechTokenLen)
}

// IsInit reports whether b begins as a NegTokenInit does: with a GSS-API header that names SPNEGO.
func IsInit(b []byte) bool {
	s := der.String(b)
	var frame, mech der.String
	return der.ReadBER(&s, &frame, der.Application(0)) && der.ReadBER(&frame, &mech, der.TagOID) && OID(mech) == SPNEGO
}

// ParseInit reads a NegTokenInit or NegTokenInit2 with its GSS-API header. What it returns may
// alias b.
func ParseInit(b []byte) (*NegTokenInit, error) {
	s := der.String(b)
	t := new(NegTokenInit)
	if !der.ReadCodedBER(&s, codeInit, t) || !s.Empty() {
		return nil, errInit
	}
	return t, nil
}

func codeInit(c *der.Codec, t *NegTokenInit) {
	c.Element(der.Application(0), func() {
		mech := SPNEGO
		codeOID(c, &mech)
		c.Require(mech == SPNEGO)
		c.Element(der.Context(0), func() {
			c.Sequence(func() {
				var reqFlags uint32 // RFC 4178 says to ignore them
				der.Field(c, 0, func(c *der.Codec, list *[]OID) {
					c.Raw(&t.RawMechTypes, func() { der.List(c, codeOID, list) })
				}, &t.MechTypes)
				der.Optional(c, 1, false, der.Flags, &reqFlags)
				der.Optional(c, 2, t.MechToken != nil, der.Octets, &t.MechToken)
				der.Optional(c, 3, false, codeMICOrHints, &t.MechListMIC)
				der.Optional(c, 4, t.MechListMIC != nil, der.Octets, &t.MechListMIC)
			})
		})
	})
}

// codeMICOrHints codes field [3]: the mechListMIC of RFC 4178, or the negHints of [MS-SPNG], told
// apart by their tags.
func codeMICOrHints(c *der.Codec, mic *[]byte) {
	if !c.Next(der.TagSequence) {
		der.Octets(c, mic)
		return
	}
	c.Sequence(func() {
		var name string
		var address []byte
		der.Optional(c, 0, false, der.GeneralString, &name)
		der.Optional(c, 1, false, der.Octets, &address)
	})
}

func codeMechTypes(c *der.Codec, list *[]OID) { der.Field(c, 0, der.ListOf(codeOID), list) }

func codeOID(c *der.Codec, o *OID) {
	var content []byte
	if !c.Reading() {
		content = []byte(*o)
	}
	der.OID(c, &content)
	if c.Reading() {
		*o = OID(content)
	}
}
