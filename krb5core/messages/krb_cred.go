package messages

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// KRBCred hands tickets and their session keys to another party, here with credential delegation.
//
//	KRB-CRED        ::= [APPLICATION 22] SEQUENCE {
//	        pvno            [0] INTEGER (5),
//	        msg-type        [1] INTEGER (22),
//	        tickets         [2] SEQUENCE OF Ticket,
//	        enc-part        [3] EncryptedData -- EncKrbCredPart
//	}
//
// (RFC 4120, Section 5.8.1)
type KRBCred struct {
	Tickets []Ticket
	EncPart EncryptedData
}

func ParseKRBCred(b []byte) (*KRBCred, error) { return parse(b, "KRB-CRED", codeKRBCred) }
func (c *KRBCred) Marshal() []byte            { return der.AppendCoded(nil, codeKRBCred, c) }

func codeKRBCred(c *der.Codec, cred *KRBCred) {
	c.Application(uint8(KRB_CRED), func() {
		c.Const(0, PVNO)
		c.Const(1, int32(KRB_CRED))
		der.Field(c, 2, der.ListOf(codeTicket), &cred.Tickets)
		der.Field(c, 3, codeEncryptedData, &cred.EncPart)
	})
}

// EncKrbCredPart is the inside of a KRBCred.
//
//	EncKrbCredPart  ::= [APPLICATION 29] SEQUENCE {
//	        ticket-info     [0] SEQUENCE OF KrbCredInfo,
//	        nonce           [1] UInt32 OPTIONAL,
//	        timestamp       [2] KerberosTime OPTIONAL,
//	        usec            [3] Microseconds OPTIONAL,
//	        s-address       [4] HostAddress OPTIONAL,
//	        r-address       [5] HostAddress OPTIONAL
//	}
//
// (RFC 4120, Section 5.8.1)
type EncKrbCredPart struct {
	TicketInfo []KrbCredInfo // one for each ticket, in their order
	Nonce      uint32        // written unless 0
	Timestamp  time.Time
	USec       int32 // microseconds; written when it or Timestamp is not zero
	SAddress   *HostAddress
	RAddress   *HostAddress
}

const tagEncKrbCredPart = 29

func ParseEncKrbCredPart(b []byte) (*EncKrbCredPart, error) {
	return parsePadded(b, "EncKrbCredPart", codeEncKrbCredPart)
}

func (p *EncKrbCredPart) Marshal() []byte { return der.AppendCoded(nil, codeEncKrbCredPart, p) }

func codeEncKrbCredPart(c *der.Codec, p *EncKrbCredPart) {
	c.Application(tagEncKrbCredPart, func() {
		der.Field(c, 0, der.ListOf(codeKrbCredInfo), &p.TicketInfo)
		der.Optional(c, 1, p.Nonce != 0, der.Uint32, &p.Nonce)
		der.Optional(c, 2, !p.Timestamp.IsZero(), der.Time, &p.Timestamp)
		der.Optional(c, 3, p.USec != 0 || !p.Timestamp.IsZero(), der.Int32, &p.USec)
		der.Optional(c, 4, p.SAddress != nil, der.Pointer(codeHostAddress), &p.SAddress)
		der.Optional(c, 5, p.RAddress != nil, der.Pointer(codeHostAddress), &p.RAddress)
	})
}

// KrbCredInfo is what the receiver of a ticket must know to use it.
//
//	KrbCredInfo     ::= SEQUENCE {
//	        key             [0] EncryptionKey,
//	        prealm          [1] Realm OPTIONAL,
//	        pname           [2] PrincipalName OPTIONAL,
//	        flags           [3] TicketFlags OPTIONAL,
//	        authtime        [4] KerberosTime OPTIONAL,
//	        starttime       [5] KerberosTime OPTIONAL,
//	        endtime         [6] KerberosTime OPTIONAL,
//	        renew-till      [7] KerberosTime OPTIONAL,
//	        srealm          [8] Realm OPTIONAL,
//	        sname           [9] PrincipalName OPTIONAL,
//	        caddr           [10] HostAddresses OPTIONAL
//	}
//
// (RFC 4120, Section 5.8.1)
type KrbCredInfo struct {
	Key       enctype.Key
	PRealm    string // of the client
	PName     PrincipalName
	Flags     TicketFlags // written unless 0
	AuthTime  time.Time
	StartTime time.Time
	EndTime   time.Time
	RenewTill time.Time
	SRealm    string
	SName     PrincipalName
	CAddr     []HostAddress
}

// CredInfo describes a credential in a KRB-CRED.
func (c *Credential) CredInfo() KrbCredInfo {
	return KrbCredInfo{
		Key:    c.Key,
		PRealm: c.Client.Realm, PName: c.Client.Name,
		Flags:    c.Flags,
		AuthTime: c.AuthTime, StartTime: c.StartTime, EndTime: c.EndTime, RenewTill: c.RenewTill,
		SRealm: c.Service.Realm, SName: c.Service.Name,
		CAddr: c.Addresses,
	}
}

func codeKrbCredInfo(c *der.Codec, i *KrbCredInfo) {
	c.Sequence(func() {
		der.Field(c, 0, codeKey, &i.Key)
		der.Optional(c, 1, i.PRealm != "", der.GeneralString, &i.PRealm)
		der.Optional(c, 2, !i.PName.IsZero(), codePrincipalName, &i.PName)
		der.Optional(c, 3, i.Flags != 0, der.Flags, &i.Flags)
		der.Optional(c, 4, !i.AuthTime.IsZero(), der.Time, &i.AuthTime)
		der.Optional(c, 5, !i.StartTime.IsZero(), der.Time, &i.StartTime)
		der.Optional(c, 6, !i.EndTime.IsZero(), der.Time, &i.EndTime)
		der.Optional(c, 7, !i.RenewTill.IsZero(), der.Time, &i.RenewTill)
		der.Optional(c, 8, i.SRealm != "", der.GeneralString, &i.SRealm)
		der.Optional(c, 9, !i.SName.IsZero(), codePrincipalName, &i.SName)
		der.Optional(c, 10, i.CAddr != nil, codeHostAddresses, &i.CAddr)
	})
}
