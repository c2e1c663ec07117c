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
// (RFC 4120, Section 5.3)
type Ticket struct {
	Realm   string // of the service
	SName   PrincipalName
	EncPart EncryptedData // under the service's key, usage 2

	// Raw is the encoding that the ticket was parsed from. Marshal repeats it; nil means to encode
	// the fields.
	Raw []byte
}

const (
	tagTicket        = 1
	tagEncTicketPart = 3
)

func ParseTicket(b []byte) (*Ticket, error) { return parse(b, "Ticket", codeTicket) }
func (t Ticket) Marshal() []byte            { return der.AppendCoded(nil, codeTicket, &t) }

func codeTicket(c *der.Codec, t *Ticket) {
	c.Raw(&t.Raw, func() {
		c.Application(tagTicket, func() {
			c.Const(0, PVNO)
			der.Field(c, 1, der.GeneralString, &t.Realm)
			der.Field(c, 2, codePrincipalName, &t.SName)
			der.Field(c, 3, codeEncryptedData, &t.EncPart)
		})
	})
}

// TransitedEncoding names the realms that took part in authenticating a client.
//
//	TransitedEncoding       ::= SEQUENCE {
//	        tr-type         [0] Int32 -- must be registered --,
//	        contents        [1] OCTET STRING
//	}
//
// (RFC 4120, Section 5.3)
type TransitedEncoding struct {
	TRType   int32 // DOMAIN_X500_COMPRESS is the one that is registered
	Contents []byte
}

// DOMAIN_X500_COMPRESS is the transited encoding type of RFC 4120, Section 7.5.6 and 3.3.3.2.
const DOMAIN_X500_COMPRESS = 1

func codeTransitedEncoding(c *der.Codec, t *TransitedEncoding) {
	codeTyped(c, 0, &t.TRType, &t.Contents)
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
// (RFC 4120, Section 5.3)
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

// ParseEncTicketPart reads an EncTicketPart from a decrypted plaintext, which zero bytes of padding
// may follow.
func ParseEncTicketPart(b []byte) (*EncTicketPart, error) {
	return parsePadded(b, "EncTicketPart", codeEncTicketPart)
}

func (t *EncTicketPart) Marshal() []byte { return der.AppendCoded(nil, codeEncTicketPart, t) }

func codeEncTicketPart(c *der.Codec, t *EncTicketPart) {
	c.Application(tagEncTicketPart, func() {
		der.Field(c, 0, der.Flags, &t.Flags)
		der.Field(c, 1, codeKey, &t.Key)
		der.Field(c, 2, der.GeneralString, &t.CRealm)
		der.Field(c, 3, codePrincipalName, &t.CName)
		der.Field(c, 4, codeTransitedEncoding, &t.Transited)
		der.Field(c, 5, der.Time, &t.AuthTime)
		der.Optional(c, 6, !t.StartTime.IsZero(), der.Time, &t.StartTime)
		der.Field(c, 7, der.Time, &t.EndTime)
		der.Optional(c, 8, !t.RenewTill.IsZero(), der.Time, &t.RenewTill)
		der.Optional(c, 9, t.CAddr != nil, codeHostAddresses, &t.CAddr)
		der.Optional(c, 10, t.AuthorizationData != nil, codeAuthorizationData, &t.AuthorizationData)
	})
}
