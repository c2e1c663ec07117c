package der

import (
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Tag is a DER identifier byte: class, constructed bit and a tag number of at most 30.
type Tag = asn1.Tag

// String is the unread rest of an encoding. Readers advance it.
type String = cryptobyte.String

// The universal tags in use. Kerberos strings are GeneralStrings (RFC 4120, Section 5.2.1), its
// times GeneralizedTimes.
const (
	TagInteger         = asn1.INTEGER
	TagBitString       = asn1.BIT_STRING
	TagOctetString     = asn1.OCTET_STRING
	TagOID             = asn1.OBJECT_IDENTIFIER
	TagEnum            = asn1.ENUM
	TagUTF8String      = asn1.UTF8String
	TagGeneralizedTime = asn1.GeneralizedTime
	TagGeneralString   = asn1.GeneralString
	TagSequence        = asn1.SEQUENCE
	TagSet             = asn1.SET
)

const (
	classApplication = 0x40
	classContext     = 0x80
	constructed      = 0x20
	maxTagNumber     = 30
)

// Context is the constructed context-specific tag [n], for n up to 30.
func Context(n uint8) Tag { return Tag(classContext | constructed | n&0x1f) }

// ContextPrimitive is the primitive context-specific tag [n], for n up to 30.
func ContextPrimitive(n uint8) Tag { return Tag(classContext | n&0x1f) }

// Application is the constructed tag [APPLICATION n], for n up to 30.
func Application(n uint8) Tag { return Tag(classApplication | constructed | n&0x1f) }
