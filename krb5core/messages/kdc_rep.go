package messages

import (
	"cmp"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// KDCRep is an AS-REP or a TGS-REP.
//
//	AS-REP          ::= [APPLICATION 11] KDC-REP
//	TGS-REP         ::= [APPLICATION 13] KDC-REP
//
//	KDC-REP         ::= SEQUENCE {
//	        pvno            [0] INTEGER (5),
//	        msg-type        [1] INTEGER (11 -- AS -- | 13 -- TGS --),
//	        padata          [2] SEQUENCE OF PA-DATA OPTIONAL
//	                                -- NOTE: not empty --,
//	        crealm          [3] Realm,
//	        cname           [4] PrincipalName,
//	        ticket          [5] Ticket,
//	        enc-part        [6] EncryptedData
//	                                -- EncASRepPart or EncTGSRepPart,
//	                                -- as appropriate
//	}
//
// (RFC 4120, Section 5.4.2)
type KDCRep struct {
	MsgType MsgType // KRB_AS_REP or KRB_TGS_REP
	PAData  MethodData
	CRealm  string
	CName   PrincipalName
	Ticket  Ticket
	EncPart EncryptedData
}

func ParseKDCRep(b []byte) (*KDCRep, error) { return parse(b, "KDC-REP", codeKDCRep) }
func (r *KDCRep) Marshal() []byte           { return der.AppendCoded(nil, codeKDCRep, r) }

func codeKDCRep(c *der.Codec, r *KDCRep) {
	der.Either(c, &r.MsgType, KRB_AS_REP, KRB_TGS_REP)
	c.Application(uint8(r.MsgType), func() {
		c.Const(0, PVNO)
		c.Const(1, int32(r.MsgType))
		der.Optional(c, 2, r.PAData != nil, codeMethodData, &r.PAData)
		der.Field(c, 3, der.GeneralString, &r.CRealm)
		der.Field(c, 4, codePrincipalName, &r.CName)
		der.Field(c, 5, codeTicket, &r.Ticket)
		der.Field(c, 6, codeEncryptedData, &r.EncPart)
	})
}

// The application tags of an EncKDCRepPart. They do not distinguish AS from TGS: MIT's KDC tags
// both with 26, Active Directory tags an AS-REP's with 25.
const (
	EncASRepPartTag  = 25
	EncTGSRepPartTag = 26
)

// EncKDCRepPart is the encrypted part of a KDC's reply, under a key that the client has.
//
//	EncASRepPart    ::= [APPLICATION 25] EncKDCRepPart
//	EncTGSRepPart   ::= [APPLICATION 26] EncKDCRepPart
//
//	EncKDCRepPart   ::= SEQUENCE {
//	        key             [0] EncryptionKey,
//	        last-req        [1] LastReq,
//	        nonce           [2] UInt32,
//	        key-expiration  [3] KerberosTime OPTIONAL,
//	        flags           [4] TicketFlags,
//	        authtime        [5] KerberosTime,
//	        starttime       [6] KerberosTime OPTIONAL,
//	        endtime         [7] KerberosTime,
//	        renew-till      [8] KerberosTime OPTIONAL,
//	        srealm          [9] Realm,
//	        sname           [10] PrincipalName,
//	        caddr           [11] HostAddresses OPTIONAL,
//	        encrypted-pa-data [12] SEQUENCE OF PA-DATA OPTIONAL
//	}
//
// (RFC 4120, Section 5.4.2, encrypted-pa-data: RFC 6806, Section 11)
type EncKDCRepPart struct {
	Tag             uint8       // EncASRepPartTag or EncTGSRepPartTag; 0 is written as EncASRepPartTag
	Key             enctype.Key // session key
	LastReq         LastReq
	Nonce           uint32
	KeyExpiration   time.Time // when the client's long-term key expires
	Flags           TicketFlags
	AuthTime        time.Time
	StartTime       time.Time // zero: same as AuthTime
	EndTime         time.Time
	RenewTill       time.Time
	SRealm          string
	SName           PrincipalName
	CAddr           []HostAddress
	EncryptedPAData MethodData
}

// ParseEncKDCRepPart reads an EncKDCRepPart with either tag from a decrypted plaintext, padding and
// all.
func ParseEncKDCRepPart(b []byte) (*EncKDCRepPart, error) {
	return parsePadded(b, "EncKDCRepPart", codeEncKDCRepPart)
}

func (p *EncKDCRepPart) Marshal() []byte { return der.AppendCoded(nil, codeEncKDCRepPart, p) }

func codeEncKDCRepPart(c *der.Codec, p *EncKDCRepPart) {
	der.Either(c, &p.Tag, EncASRepPartTag, EncTGSRepPartTag)
	c.Application(cmp.Or(p.Tag, EncASRepPartTag), func() {
		der.Field(c, 0, codeKey, &p.Key)
		der.Field(c, 1, codeLastReq, &p.LastReq)
		der.Field(c, 2, der.Uint32, &p.Nonce)
		der.Optional(c, 3, !p.KeyExpiration.IsZero(), der.Time, &p.KeyExpiration)
		der.Field(c, 4, der.Flags, &p.Flags)
		der.Field(c, 5, der.Time, &p.AuthTime)
		der.Optional(c, 6, !p.StartTime.IsZero(), der.Time, &p.StartTime)
		der.Field(c, 7, der.Time, &p.EndTime)
		der.Optional(c, 8, !p.RenewTill.IsZero(), der.Time, &p.RenewTill)
		der.Field(c, 9, der.GeneralString, &p.SRealm)
		der.Field(c, 10, codePrincipalName, &p.SName)
		der.Optional(c, 11, p.CAddr != nil, codeHostAddresses, &p.CAddr)
		der.Optional(c, 12, p.EncryptedPAData != nil, codeMethodData, &p.EncryptedPAData)
	})
}

// LRType is the kind of time in a LastReqEntry. Negative types concern the answering KDC only,
// positive ones the realm.
type LRType int32

// The types of RFC 4120, Section 5.4.2.
const (
	LR_NONE       LRType = 0
	LR_PW_EXPTIME LRType = 6 // when the password will expire
)

// LastReqEntry is one time of a LastReq.
type LastReqEntry struct {
	Type  LRType
	Value time.Time
}

// LastReq lists times of earlier requests by the client, and of expirations.
//
//	LastReq         ::=     SEQUENCE OF SEQUENCE {
//	        lr-type         [0] Int32,
//	        lr-value        [1] KerberosTime
//	}
//
// (RFC 4120, Section 5.4.2)
type LastReq []LastReqEntry

func codeLastReq(c *der.Codec, l *LastReq) { der.List(c, codeLastReqEntry, l) }

func codeLastReqEntry(c *der.Codec, e *LastReqEntry) {
	c.Sequence(func() {
		der.Field(c, 0, der.Int32, &e.Type)
		der.Field(c, 1, der.Time, &e.Value)
	})
}
