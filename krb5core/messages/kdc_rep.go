package messages

import (
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
// (RFC 4120 5.4.2)
type KDCRep struct {
	MsgType MsgType // KRB_AS_REP or KRB_TGS_REP
	PAData  MethodData
	CRealm  string
	CName   PrincipalName
	Ticket  Ticket
	EncPart EncryptedData
}

// ParseKDCRep reads an AS-REP or a TGS-REP.
func ParseKDCRep(b []byte) (*KDCRep, error) { return parse(b, "KDC-REP", readKDCRep) }

// Append appends the DER encoding.
func (r *KDCRep) Append(dst []byte) []byte {
	return appendApplication(dst, uint8(r.MsgType), func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, PVNO)
		dst = der.AppendField(dst, 1, der.AppendInt, r.MsgType)
		dst = appendOptionalPAData(dst, 2, r.PAData)
		dst = der.AppendField(dst, 3, der.AppendGeneralString, r.CRealm)
		dst = der.AppendField(dst, 4, der.AppendValue, r.CName)
		dst = der.AppendField(dst, 5, der.AppendValue, r.Ticket)
		return der.AppendField(dst, 6, der.AppendValue, r.EncPart)
	})
}

// Marshal returns the DER encoding.
func (r *KDCRep) Marshal() []byte { return r.Append(nil) }

func readKDCRep(s *der.String, r *KDCRep) bool {
	r.MsgType = TypeOf(*s)
	if r.MsgType != KRB_AS_REP && r.MsgType != KRB_TGS_REP {
		return false
	}
	var seq der.String
	return readApplication(s, uint8(r.MsgType), &seq) &&
		readConst(&seq, 0, PVNO) &&
		readConst(&seq, 1, int32(r.MsgType)) &&
		der.ReadOptional(&seq, 2, readMethodData, &r.PAData) &&
		der.ReadField(&seq, 3, der.ReadGeneralString, &r.CRealm) &&
		der.ReadField(&seq, 4, readPrincipalName, &r.CName) &&
		der.ReadField(&seq, 5, readTicket, &r.Ticket) &&
		der.ReadField(&seq, 6, readEncryptedData, &r.EncPart) &&
		der.SkipUnknown(&seq, 6)
}

// The application tags of an EncKDCRepPart. They do not tell AS from TGS: MIT's KDC tags both with 26, Active Directory
// tags an AS-REP's with 25.
const (
	EncASRepPartTag  = 25
	EncTGSRepPartTag = 26
)

// EncKDCRepPart is what a KDC tells the client, under a key that the client knows.
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
// (RFC 4120 5.4.2, encrypted-pa-data: RFC 6806 11)
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

// ParseEncKDCRepPart reads an EncKDCRepPart with either tag from a decrypted plaintext, padding and all.
func ParseEncKDCRepPart(b []byte) (*EncKDCRepPart, error) {
	return parsePadded(b, "EncKDCRepPart", readEncKDCRepPart)
}

// Append appends the DER encoding.
func (p *EncKDCRepPart) Append(dst []byte) []byte {
	tag := p.Tag
	if tag == 0 {
		tag = EncASRepPartTag
	}
	return appendApplication(dst, tag, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, appendKey, p.Key)
		dst = der.AppendField(dst, 1, der.AppendValue, p.LastReq)
		dst = der.AppendField(dst, 2, der.AppendInt, p.Nonce)
		dst = der.AppendOptionalTime(dst, 3, p.KeyExpiration)
		dst = der.AppendField(dst, 4, der.AppendFlags, p.Flags)
		dst = der.AppendField(dst, 5, der.AppendTime, p.AuthTime)
		dst = der.AppendOptionalTime(dst, 6, p.StartTime)
		dst = der.AppendField(dst, 7, der.AppendTime, p.EndTime)
		dst = der.AppendOptionalTime(dst, 8, p.RenewTill)
		dst = der.AppendField(dst, 9, der.AppendGeneralString, p.SRealm)
		dst = der.AppendField(dst, 10, der.AppendValue, p.SName)
		dst = appendOptionalAddresses(dst, 11, p.CAddr)
		return appendOptionalPAData(dst, 12, p.EncryptedPAData)
	})
}

// Marshal returns the DER encoding.
func (p *EncKDCRepPart) Marshal() []byte { return p.Append(nil) }

func readEncKDCRepPart(s *der.String, p *EncKDCRepPart) bool {
	p.Tag = EncASRepPartTag
	if der.Next(s, der.Application(EncTGSRepPartTag)) {
		p.Tag = EncTGSRepPartTag
	}
	var seq der.String
	return readApplication(s, p.Tag, &seq) &&
		der.ReadField(&seq, 0, readKey, &p.Key) &&
		der.ReadField(&seq, 1, readLastReq, &p.LastReq) &&
		der.ReadField(&seq, 2, der.ReadUint32, &p.Nonce) &&
		der.ReadOptional(&seq, 3, der.ReadTime, &p.KeyExpiration) &&
		der.ReadField(&seq, 4, der.ReadFlags, &p.Flags) &&
		der.ReadField(&seq, 5, der.ReadTime, &p.AuthTime) &&
		der.ReadOptional(&seq, 6, der.ReadTime, &p.StartTime) &&
		der.ReadField(&seq, 7, der.ReadTime, &p.EndTime) &&
		der.ReadOptional(&seq, 8, der.ReadTime, &p.RenewTill) &&
		der.ReadField(&seq, 9, der.ReadGeneralString, &p.SRealm) &&
		der.ReadField(&seq, 10, readPrincipalName, &p.SName) &&
		der.ReadOptional(&seq, 11, readHostAddresses, &p.CAddr) &&
		der.ReadOptional(&seq, 12, readMethodData, &p.EncryptedPAData) &&
		der.SkipUnknown(&seq, 12)
}

// LRType says what time a LastReqEntry tells. Negative types concern the answering KDC only, positive ones the realm.
type LRType int32

// The types of RFC 4120 5.4.2.
const (
	LR_NONE         LRType = 0
	LR_INITIAL_TGT  LRType = 1 // last initial request for a TGT
	LR_INITIAL      LRType = 2 // last initial request
	LR_NEWEST_TGT   LRType = 3 // issue of the newest TGT used
	LR_RENEWAL      LRType = 4 // last renewal
	LR_REQUEST      LRType = 5 // last request of any kind
	LR_PW_EXPTIME   LRType = 6 // when the password will expire
	LR_ACCT_EXPTIME LRType = 7 // when the account will expire
)

// LastReqEntry is one time of a LastReq.
type LastReqEntry struct {
	Type  LRType
	Value time.Time
}

// LastReq tells of earlier requests by the client, and of expirations.
//
//	LastReq         ::=     SEQUENCE OF SEQUENCE {
//	        lr-type         [0] Int32,
//	        lr-value        [1] KerberosTime
//	}
//
// (RFC 4120 5.4.2)
type LastReq []LastReqEntry

// Append appends the DER encoding.
func (l LastReq) Append(dst []byte) []byte {
	return der.AppendSequenceOf(der.AppendValue[LastReqEntry])(dst, l)
}

// Append appends the DER encoding.
func (e LastReqEntry) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, e.Type)
		return der.AppendField(dst, 1, der.AppendTime, e.Value)
	})
}

func readLastReq(s *der.String, l *LastReq) bool {
	return der.ReadSequenceOf(readLastReqEntry)(s, (*[]LastReqEntry)(l))
}

func readLastReqEntry(s *der.String, e *LastReqEntry) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadInt32, &e.Type) &&
		der.ReadField(&seq, 1, der.ReadTime, &e.Value) &&
		der.SkipUnknown(&seq, 1)
}
