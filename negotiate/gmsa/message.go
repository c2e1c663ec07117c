package gmsa

import (
	"errors"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// The operations of LDAP in use, by their application tags (RFC 4511, Section 4).
const (
	opBindRequest     = 0
	opBindResponse    = 1
	opUnbindRequest   = 2
	opSearchRequest   = 3
	opSearchEntry     = 4
	opSearchDone      = 5
	opSearchReference = 19
)

var errMessage = errors.New("malformed LDAP message: the server does not speak RFC 4511")

// message is an LDAPMessage:
//
//	LDAPMessage ::= SEQUENCE {
//	     messageID       MessageID,
//	     protocolOp      CHOICE { ... },
//	     controls       [0] Controls OPTIONAL }
//
// (RFC 4511, Section 4.1.1)
type message struct {
	id  int32
	op  der.Tag
	raw []byte // the operation's encoding
}

// appendMessage appends a message whose operation is what the function appends.
func appendMessage(dst []byte, id int32, op func([]byte) []byte) []byte {
	return der.Append(dst, der.TagSequence, func(dst []byte) []byte { return op(der.AppendInt(dst, id)) })
}

// parseMessage reads a message. Active Directory sends lengths of more bytes than needed.
func parseMessage(b []byte) (m message, err error) {
	s := der.String(b)
	ok := der.ReadCodedBER(&s, func(c *der.Codec, m *message) {
		c.Element(der.TagSequence, func() {
			der.Int32(c, &m.id)
			der.Any(c, &m.raw)
			var controls []byte
			der.OptionalAny(c, &controls)
		})
	}, &m)
	if !ok || !s.Empty() || m.id < 0 {
		return message{}, errMessage
	}
	m.op = der.Tag(m.raw[0])
	return m, nil
}

// bindRequest asks for a SASL bind:
//
//	BindRequest ::= [APPLICATION 0] SEQUENCE {
//	     version                 INTEGER (1 ..  127),
//	     name                    LDAPDN,
//	     authentication          AuthenticationChoice }
//	AuthenticationChoice ::= CHOICE {
//	     sasl                    [3] SaslCredentials,
//	     ...  }
//	SaslCredentials ::= SEQUENCE {
//	     mechanism               LDAPString,
//	     credentials             OCTET STRING OPTIONAL }
//
// (RFC 4511, Section 4.2)
func appendBindRequest(dst, token []byte) []byte {
	return der.Append(dst, der.Application(opBindRequest), func(dst []byte) []byte {
		dst = der.AppendInt(dst, 3)
		dst = der.AppendOctetString(dst, nil)
		return der.Append(dst, der.Context(3), func(dst []byte) []byte {
			return der.AppendOctetString(der.AppendOctetString(dst, []byte("GSS-SPNEGO")), token)
		})
	})
}

// result is an LDAPResult, with the end of a BindResponse:
//
//	LDAPResult ::= SEQUENCE {
//	     resultCode         ENUMERATED { ... },
//	     matchedDN          LDAPDN,
//	     diagnosticMessage  LDAPString,
//	     referral           [3] Referral OPTIONAL }
//	BindResponse ::= [APPLICATION 1] SEQUENCE {
//	     COMPONENTS OF LDAPResult,
//	     serverSaslCreds    [7] OCTET STRING OPTIONAL }
//
// (RFC 4511, Sections 4.1.9 and 4.2.2)
type result struct {
	code    int32
	message []byte
	creds   []byte // nil if there are none
}

func parseResult(raw []byte, op uint8) (r result, err error) {
	s := der.String(raw)
	ok := der.ReadCodedBER(&s, func(c *der.Codec, r *result) {
		c.Element(der.Application(op), func() {
			var ignored []byte
			der.Enum(c, &r.code)
			der.Octets(c, &ignored)
			der.Octets(c, &r.message)
			if c.Next(der.Context(3)) {
				der.Any(c, &ignored)
			}
			der.OptionalImplicitOctets(c, 7, &r.creds)
			der.OptionalAny(c, &ignored)
		})
	}, &r)
	if !ok || !s.Empty() {
		return result{}, errMessage
	}
	return r, nil
}

// maxShown bounds what errors show of a server's text, in bytes.
const maxShown = 200

// err returns the error that the result is, nil for success.
func (r *result) err() error {
	if r.code == resultSuccess {
		return nil
	}
	text := strings.TrimRight(string(r.message[:min(len(r.message), maxShown)]), "\x00")
	return &ResultError{Code: r.code, Message: strings.ToValidUTF8(text, "?")}
}

// The attributes that are asked for.
const (
	attrPassword = "msDS-ManagedPassword"
	attrClass    = "objectClass"
	attrSet      = "pwdLastSet"
	classManaged = "msDS-GroupManagedServiceAccount"
)

// appendSearchRequest appends the search for an account below a base:
//
//	SearchRequest ::= [APPLICATION 3] SEQUENCE {
//	     baseObject      LDAPDN,
//	     scope           ENUMERATED { ..., wholeSubtree (2), ...  },
//	     derefAliases    ENUMERATED { neverDerefAliases (0), ... },
//	     sizeLimit       INTEGER (0 ..  maxInt),
//	     timeLimit       INTEGER (0 ..  maxInt),
//	     typesOnly       BOOLEAN,
//	     filter          Filter,
//	     attributes      AttributeSelection }
//	Filter ::= CHOICE {
//	     equalityMatch   [3] AttributeValueAssertion, ... }
//
// (RFC 4511, Section 4.5.1)
func appendSearchRequest(dst []byte, base, account string) []byte {
	const wholeSubtree, never, sizeLimit, seconds = 2, 0, 2, 10
	text := func(dst []byte, s string) []byte { return der.AppendOctetString(dst, []byte(s)) }
	return der.Append(dst, der.Application(opSearchRequest), func(dst []byte) []byte {
		dst = text(dst, base)
		dst = der.AppendEnum(der.AppendEnum(dst, wholeSubtree), never)
		dst = der.AppendInt(der.AppendInt(dst, sizeLimit), seconds)
		dst = append(dst, 1, 1, 0) // BOOLEAN FALSE
		dst = der.Append(dst, der.Context(3), func(dst []byte) []byte { return text(text(dst, "sAMAccountName"), account) })
		return der.Append(dst, der.TagSequence, func(dst []byte) []byte {
			return text(text(text(dst, attrPassword), attrClass), attrSet)
		})
	})
}

// entry is a SearchResultEntry:
//
//	SearchResultEntry ::= [APPLICATION 4] SEQUENCE {
//	     objectName      LDAPDN,
//	     attributes      PartialAttributeList }
//	PartialAttributeList ::= SEQUENCE OF
//	     partialAttribute PartialAttribute
//
//	PartialAttribute ::= SEQUENCE {
//	     type       AttributeDescription,
//	     vals       SET OF value AttributeValue }
//
// (RFC 4511, Sections 4.1.7 and 4.5.2)
type entry struct {
	name       []byte
	attributes []attribute
}

type attribute struct {
	name   []byte
	values [][]byte
}

func parseEntry(raw []byte) (e entry, err error) {
	s := der.String(raw)
	ok := der.ReadCodedBER(&s, func(c *der.Codec, e *entry) {
		c.Element(der.Application(opSearchEntry), func() {
			der.Octets(c, &e.name)
			der.List(c, func(c *der.Codec, a *attribute) {
				c.Element(der.TagSequence, func() {
					der.Octets(c, &a.name)
					der.ListIn(c, der.TagSet, der.Octets, &a.values)
				})
			}, &e.attributes)
		})
	}, &e)
	if !ok || !s.Empty() {
		return entry{}, errMessage
	}
	return e, nil
}

// values returns the values of an attribute, whose name has no case.
func (e *entry) values(name string) [][]byte {
	for _, a := range e.attributes {
		if strings.EqualFold(string(a.name), name) {
			return a.values
		}
	}
	return nil
}
