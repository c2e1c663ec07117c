package messages

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// Ticket is what a KDC issues to a client for a service. Its inside is for the service alone.
//
//	Ticket          ::= [APPLICATION 1] SEQUENCE {
//	        tkt-vno         [0] INTEGER (5),
//	        realm           [1] Realm,
//	        sname           [2] PrincipalName,
//	        enc-part        [3] EncryptedData -- EncTicketPart
//	}
//
// (RFC 4120 5.3)
type Ticket struct {
	Realm   string // of the service
	SName   PrincipalName
	EncPart EncryptedData // under the service's key, usage 2

	// Raw is the encoding that the ticket was parsed from. Append repeats it; nil means to encode the fields.
	Raw []byte
}

const (
	tagTicket        = 1
	tagEncTicketPart = 3
)

// ParseTicket reads a Ticket.
func ParseTicket(b []byte) (*Ticket, error) { return parse(b, "Ticket", readTicket) }

// Append appends the DER encoding: Raw if there is one.
func (t Ticket) Append(dst []byte) []byte {
	if t.Raw != nil {
		return append(dst, t.Raw...)
	}
	return appendApplication(dst, tagTicket, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, PVNO)
		dst = der.AppendField(dst, 1, der.AppendGeneralString, t.Realm)
		dst = der.AppendField(dst, 2, der.AppendValue, t.SName)
		return der.AppendField(dst, 3, der.AppendValue, t.EncPart)
	})
}

// Marshal returns the DER encoding.
func (t Ticket) Marshal() []byte { return t.Append(nil) }

func readTicket(s *der.String, t *Ticket) bool {
	if !der.ReadRaw(s, &t.Raw) {
		return false
	}
	var seq der.String
	element := der.String(t.Raw)
	return readApplication(&element, tagTicket, &seq) &&
		readConst(&seq, 0, PVNO) &&
		der.ReadField(&seq, 1, der.ReadGeneralString, &t.Realm) &&
		der.ReadField(&seq, 2, readPrincipalName, &t.SName) &&
		der.ReadField(&seq, 3, readEncryptedData, &t.EncPart) &&
		der.SkipUnknown(&seq, 3)
}

// TransitedEncoding names the realms that took part in authenticating a client.
//
//	TransitedEncoding       ::= SEQUENCE {
//	        tr-type         [0] Int32 -- must be registered --,
//	        contents        [1] OCTET STRING
//	}
//
// (RFC 4120 5.3)
type TransitedEncoding struct {
	TRType   int32 // DOMAIN_X500_COMPRESS is the one that is registered
	Contents []byte
}

// DOMAIN_X500_COMPRESS is the transited encoding type of RFC 4120 7.5.6 and 3.3.3.2.
const DOMAIN_X500_COMPRESS = 1

// Append appends the DER encoding.
func (t TransitedEncoding) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, t.TRType)
		return der.AppendField(dst, 1, der.AppendOctetString, t.Contents)
	})
}

func readTransitedEncoding(s *der.String, t *TransitedEncoding) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadInt32, &t.TRType) &&
		der.ReadField(&seq, 1, der.ReadOctets, &t.Contents) &&
		der.SkipUnknown(&seq, 1)
}

// EncTicketPart is the inside of a Ticket.
//
//	EncTicketPart   ::= [APPLICATION 3] SEQUENCE {
//	        flags                   [0] TicketFlags,
//	        key                     [1] EncryptionKey,
//	        crealm                  [2] Realm,
//	        cname                   [3] PrincipalName,
//	        transited               [4] TransitedEncoding,
//	        authtime                [5] KerberosTime,
//	        starttime               [6] KerberosTime OPTIONAL,
//	        endtime                 [7] KerberosTime,
//	        renew-till              [8] KerberosTime OPTIONAL,
//	        caddr                   [9] HostAddresses OPTIONAL,
//	        authorization-data      [10] AuthorizationData OPTIONAL
//	}
//
// (RFC 4120 5.3)
type EncTicketPart struct {
	Flags             TicketFlags
	Key               enctype.Key // session key
	CRealm            string
	CName             PrincipalName
	Transited         TransitedEncoding
	AuthTime          time.Time
	StartTime         time.Time // zero: same as AuthTime
	EndTime           time.Time
	RenewTill         time.Time
	CAddr             []HostAddress
	AuthorizationData AuthorizationData
}

// ParseEncTicketPart reads an EncTicketPart from a decrypted plaintext, which zero octets of padding may follow.
func ParseEncTicketPart(b []byte) (*EncTicketPart, error) {
	return parsePadded(b, "EncTicketPart", readEncTicketPart)
}

// Append appends the DER encoding.
func (t *EncTicketPart) Append(dst []byte) []byte {
	return appendApplication(dst, tagEncTicketPart, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendFlags, t.Flags)
		dst = der.AppendField(dst, 1, appendKey, t.Key)
		dst = der.AppendField(dst, 2, der.AppendGeneralString, t.CRealm)
		dst = der.AppendField(dst, 3, der.AppendValue, t.CName)
		dst = der.AppendField(dst, 4, der.AppendValue, t.Transited)
		dst = der.AppendField(dst, 5, der.AppendTime, t.AuthTime)
		dst = der.AppendOptionalTime(dst, 6, t.StartTime)
		dst = der.AppendField(dst, 7, der.AppendTime, t.EndTime)
		dst = der.AppendOptionalTime(dst, 8, t.RenewTill)
		dst = appendOptionalAddresses(dst, 9, t.CAddr)
		return appendOptionalAuthorizationData(dst, 10, t.AuthorizationData)
	})
}

// Marshal returns the DER encoding.
func (t *EncTicketPart) Marshal() []byte { return t.Append(nil) }

func readEncTicketPart(s *der.String, t *EncTicketPart) bool {
	var seq der.String
	return readApplication(s, tagEncTicketPart, &seq) &&
		der.ReadField(&seq, 0, der.ReadFlags, &t.Flags) &&
		der.ReadField(&seq, 1, readKey, &t.Key) &&
		der.ReadField(&seq, 2, der.ReadGeneralString, &t.CRealm) &&
		der.ReadField(&seq, 3, readPrincipalName, &t.CName) &&
		der.ReadField(&seq, 4, readTransitedEncoding, &t.Transited) &&
		der.ReadField(&seq, 5, der.ReadTime, &t.AuthTime) &&
		der.ReadOptional(&seq, 6, der.ReadTime, &t.StartTime) &&
		der.ReadField(&seq, 7, der.ReadTime, &t.EndTime) &&
		der.ReadOptional(&seq, 8, der.ReadTime, &t.RenewTill) &&
		der.ReadOptional(&seq, 9, readHostAddresses, &t.CAddr) &&
		der.ReadOptional(&seq, 10, readAuthorizationData, &t.AuthorizationData) &&
		der.SkipUnknown(&seq, 10)
}
