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
// (RFC 4120 5.8.1)
type KRBCred struct {
	Tickets []Ticket
	EncPart EncryptedData
}

// ParseKRBCred reads a KRB-CRED.
func ParseKRBCred(b []byte) (*KRBCred, error) { return parse(b, "KRB-CRED", readKRBCred) }

// Append appends the DER encoding.
func (c *KRBCred) Append(dst []byte) []byte {
	return appendApplication(dst, uint8(KRB_CRED), func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, PVNO)
		dst = der.AppendField(dst, 1, der.AppendInt, KRB_CRED)
		dst = der.AppendField(dst, 2, der.AppendSequenceOf(der.AppendValue[Ticket]), c.Tickets)
		return der.AppendField(dst, 3, der.AppendValue, c.EncPart)
	})
}

// Marshal returns the DER encoding.
func (c *KRBCred) Marshal() []byte { return c.Append(nil) }

func readKRBCred(s *der.String, c *KRBCred) bool {
	var seq der.String
	return readApplication(s, uint8(KRB_CRED), &seq) &&
		readConst(&seq, 0, PVNO) &&
		readConst(&seq, 1, int32(KRB_CRED)) &&
		der.ReadField(&seq, 2, der.ReadSequenceOf(readTicket), &c.Tickets) &&
		der.ReadField(&seq, 3, readEncryptedData, &c.EncPart) &&
		der.SkipUnknown(&seq, 3)
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
// (RFC 4120 5.8.1)
type EncKrbCredPart struct {
	TicketInfo []KrbCredInfo // one for each ticket, in their order
	Nonce      uint32        // written unless 0
	Timestamp  time.Time
	USec       int32 // microseconds; written when it or Timestamp is not zero
	SAddress   *HostAddress
	RAddress   *HostAddress
}

const tagEncKrbCredPart = 29

// ParseEncKrbCredPart reads an EncKrbCredPart from a decrypted plaintext, padding and all.
func ParseEncKrbCredPart(b []byte) (*EncKrbCredPart, error) {
	return parsePadded(b, "EncKrbCredPart", readEncKrbCredPart)
}

// Append appends the DER encoding.
func (p *EncKrbCredPart) Append(dst []byte) []byte {
	return appendApplication(dst, tagEncKrbCredPart, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendSequenceOf(der.AppendValue[KrbCredInfo]), p.TicketInfo)
		if p.Nonce != 0 {
			dst = der.AppendField(dst, 1, der.AppendInt, p.Nonce)
		}
		dst = der.AppendOptionalTime(dst, 2, p.Timestamp)
		if !p.Timestamp.IsZero() || p.USec != 0 {
			dst = der.AppendField(dst, 3, der.AppendInt, p.USec)
		}
		if p.SAddress != nil {
			dst = der.AppendField(dst, 4, der.AppendValue, *p.SAddress)
		}
		if p.RAddress != nil {
			dst = der.AppendField(dst, 5, der.AppendValue, *p.RAddress)
		}
		return dst
	})
}

// Marshal returns the DER encoding.
func (p *EncKrbCredPart) Marshal() []byte { return p.Append(nil) }

func readEncKrbCredPart(s *der.String, p *EncKrbCredPart) bool {
	var seq der.String
	return readApplication(s, tagEncKrbCredPart, &seq) &&
		der.ReadField(&seq, 0, der.ReadSequenceOf(readKrbCredInfo), &p.TicketInfo) &&
		der.ReadOptional(&seq, 1, der.ReadUint32, &p.Nonce) &&
		der.ReadOptional(&seq, 2, der.ReadTime, &p.Timestamp) &&
		der.ReadOptional(&seq, 3, der.ReadInt32, &p.USec) &&
		der.ReadOptional(&seq, 4, der.ReadPointer(readHostAddress), &p.SAddress) &&
		der.ReadOptional(&seq, 5, der.ReadPointer(readHostAddress), &p.RAddress) &&
		der.SkipUnknown(&seq, 5)
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
// (RFC 4120 5.8.1)
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

// CredInfo is what to tell of a credential in a KRB-CRED.
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

// Append appends the DER encoding.
func (i KrbCredInfo) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, appendKey, i.Key)
		if i.PRealm != "" {
			dst = der.AppendField(dst, 1, der.AppendGeneralString, i.PRealm)
		}
		dst = appendOptionalName(dst, 2, i.PName)
		if i.Flags != 0 {
			dst = der.AppendField(dst, 3, der.AppendFlags, i.Flags)
		}
		dst = der.AppendOptionalTime(dst, 4, i.AuthTime)
		dst = der.AppendOptionalTime(dst, 5, i.StartTime)
		dst = der.AppendOptionalTime(dst, 6, i.EndTime)
		dst = der.AppendOptionalTime(dst, 7, i.RenewTill)
		if i.SRealm != "" {
			dst = der.AppendField(dst, 8, der.AppendGeneralString, i.SRealm)
		}
		dst = appendOptionalName(dst, 9, i.SName)
		return appendOptionalAddresses(dst, 10, i.CAddr)
	})
}

func readKrbCredInfo(s *der.String, i *KrbCredInfo) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, readKey, &i.Key) &&
		der.ReadOptional(&seq, 1, der.ReadGeneralString, &i.PRealm) &&
		der.ReadOptional(&seq, 2, readPrincipalName, &i.PName) &&
		der.ReadOptional(&seq, 3, der.ReadFlags, &i.Flags) &&
		der.ReadOptional(&seq, 4, der.ReadTime, &i.AuthTime) &&
		der.ReadOptional(&seq, 5, der.ReadTime, &i.StartTime) &&
		der.ReadOptional(&seq, 6, der.ReadTime, &i.EndTime) &&
		der.ReadOptional(&seq, 7, der.ReadTime, &i.RenewTill) &&
		der.ReadOptional(&seq, 8, der.ReadGeneralString, &i.SRealm) &&
		der.ReadOptional(&seq, 9, readPrincipalName, &i.SName) &&
		der.ReadOptional(&seq, 10, readHostAddresses, &i.CAddr) &&
		der.SkipUnknown(&seq, 10)
}
