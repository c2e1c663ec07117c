package messages

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// KDCReq is an AS-REQ or a TGS-REQ.
//
//	AS-REQ          ::= [APPLICATION 10] KDC-REQ
//	TGS-REQ         ::= [APPLICATION 12] KDC-REQ
//
//	KDC-REQ         ::= SEQUENCE {
//	        -- NOTE: first tag is [1], not [0]
//	        pvno            [1] INTEGER (5) ,
//	        msg-type        [2] INTEGER (10 -- AS -- | 12 -- TGS --),
//	        padata          [3] SEQUENCE OF PA-DATA OPTIONAL
//	                            -- NOTE: not empty --,
//	        req-body        [4] KDC-REQ-BODY
//	}
//
// (RFC 4120 5.4.1)
type KDCReq struct {
	MsgType MsgType // KRB_AS_REQ or KRB_TGS_REQ
	PAData  MethodData
	Body    KDCReqBody
}

// ParseKDCReq reads an AS-REQ or a TGS-REQ.
func ParseKDCReq(b []byte) (*KDCReq, error) { return parse(b, "KDC-REQ", readKDCReq) }

// Append appends the DER encoding.
func (r *KDCReq) Append(dst []byte) []byte {
	return appendApplication(dst, uint8(r.MsgType), func(dst []byte) []byte {
		dst = der.AppendField(dst, 1, der.AppendInt, PVNO)
		dst = der.AppendField(dst, 2, der.AppendInt, r.MsgType)
		dst = appendOptionalPAData(dst, 3, r.PAData)
		return der.AppendField(dst, 4, der.AppendValue, &r.Body)
	})
}

// Marshal returns the DER encoding.
func (r *KDCReq) Marshal() []byte { return r.Append(nil) }

func readKDCReq(s *der.String, r *KDCReq) bool {
	r.MsgType = TypeOf(*s)
	if r.MsgType != KRB_AS_REQ && r.MsgType != KRB_TGS_REQ {
		return false
	}
	var seq der.String
	return readApplication(s, uint8(r.MsgType), &seq) &&
		readConst(&seq, 1, PVNO) &&
		readConst(&seq, 2, int32(r.MsgType)) &&
		der.ReadOptional(&seq, 3, readMethodData, &r.PAData) &&
		der.ReadField(&seq, 4, readKDCReqBody, &r.Body) &&
		der.SkipUnknown(&seq, 4)
}

// KDCReqBody is what a request asks for, and what the checksum in a TGS-REQ's authenticator or its FAST armor covers.
//
//	KDC-REQ-BODY    ::= SEQUENCE {
//	        kdc-options             [0] KDCOptions,
//	        cname                   [1] PrincipalName OPTIONAL
//	                                    -- Used only in AS-REQ --,
//	        realm                   [2] Realm
//	                                    -- Server's realm
//	                                    -- Also client's in AS-REQ --,
//	        sname                   [3] PrincipalName OPTIONAL,
//	        from                    [4] KerberosTime OPTIONAL,
//	        till                    [5] KerberosTime,
//	        rtime                   [6] KerberosTime OPTIONAL,
//	        nonce                   [7] UInt32,
//	        etype                   [8] SEQUENCE OF Int32 -- EncryptionType
//	                                    -- in preference order --,
//	        addresses               [9] HostAddresses OPTIONAL,
//	        enc-authorization-data  [10] EncryptedData OPTIONAL
//	                                    -- AuthorizationData --,
//	        additional-tickets      [11] SEQUENCE OF Ticket OPTIONAL
//	                                        -- NOTE: not empty
//	}
//
// (RFC 4120 5.4.1)
type KDCReqBody struct {
	KDCOptions           KDCOptions
	CName                PrincipalName
	Realm                string
	SName                PrincipalName
	From                 time.Time
	Till                 time.Time
	RTime                time.Time
	Nonce                uint32 // below 2^31: some KDCs read it as signed
	EType                []enctype.ID
	Addresses            []HostAddress
	EncAuthorizationData *EncryptedData
	AdditionalTickets    []Ticket

	// Raw is the encoding that the body was parsed from. Append repeats it; nil means to encode the fields.
	Raw []byte
}

// ParseKDCReqBody reads a KDC-REQ-BODY.
func ParseKDCReqBody(b []byte) (*KDCReqBody, error) { return parse(b, "KDC-REQ-BODY", readKDCReqBody) }

// Append appends the DER encoding: Raw if there is one.
func (r *KDCReqBody) Append(dst []byte) []byte {
	if r.Raw != nil {
		return append(dst, r.Raw...)
	}
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendFlags, r.KDCOptions)
		dst = appendOptionalName(dst, 1, r.CName)
		dst = der.AppendField(dst, 2, der.AppendGeneralString, r.Realm)
		dst = appendOptionalName(dst, 3, r.SName)
		dst = der.AppendOptionalTime(dst, 4, r.From)
		dst = der.AppendField(dst, 5, der.AppendTime, r.Till)
		dst = der.AppendOptionalTime(dst, 6, r.RTime)
		dst = der.AppendField(dst, 7, der.AppendInt, r.Nonce)
		dst = der.AppendField(dst, 8, der.AppendSequenceOf(der.AppendInt[enctype.ID]), r.EType)
		dst = appendOptionalAddresses(dst, 9, r.Addresses)
		if r.EncAuthorizationData != nil {
			dst = der.AppendField(dst, 10, der.AppendValue, *r.EncAuthorizationData)
		}
		if r.AdditionalTickets != nil {
			dst = der.AppendField(dst, 11, der.AppendSequenceOf(der.AppendValue[Ticket]), r.AdditionalTickets)
		}
		return dst
	})
}

// Marshal returns the DER encoding: Raw, or a copy of what Append makes.
func (r *KDCReqBody) Marshal() []byte { return r.Append(nil) }

func readKDCReqBody(s *der.String, r *KDCReqBody) bool {
	if !der.ReadRaw(s, &r.Raw) {
		return false
	}
	var seq der.String
	element := der.String(r.Raw)
	return der.ReadSequence(&element, &seq) &&
		der.ReadField(&seq, 0, der.ReadFlags, &r.KDCOptions) &&
		der.ReadOptional(&seq, 1, readPrincipalName, &r.CName) &&
		der.ReadField(&seq, 2, der.ReadGeneralString, &r.Realm) &&
		der.ReadOptional(&seq, 3, readPrincipalName, &r.SName) &&
		der.ReadOptional(&seq, 4, der.ReadTime, &r.From) &&
		der.ReadField(&seq, 5, der.ReadTime, &r.Till) &&
		der.ReadOptional(&seq, 6, der.ReadTime, &r.RTime) &&
		der.ReadField(&seq, 7, der.ReadUint32, &r.Nonce) &&
		der.ReadField(&seq, 8, der.ReadSequenceOf(der.ReadInt32[enctype.ID]), &r.EType) &&
		der.ReadOptional(&seq, 9, readHostAddresses, &r.Addresses) &&
		der.ReadOptional(&seq, 10, der.ReadPointer(readEncryptedData), &r.EncAuthorizationData) &&
		der.ReadOptional(&seq, 11, der.ReadSequenceOf(readTicket), &r.AdditionalTickets) &&
		der.SkipUnknown(&seq, 11)
}
