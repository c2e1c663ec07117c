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
// (RFC 4120, Section 5.4.1)
type KDCReq struct {
	MsgType MsgType // KRB_AS_REQ or KRB_TGS_REQ
	PAData  MethodData
	Body    KDCReqBody
}

func ParseKDCReq(b []byte) (*KDCReq, error) { return parse(b, "KDC-REQ", codeKDCReq) }
func (r *KDCReq) Marshal() []byte           { return der.AppendCoded(nil, codeKDCReq, r) }

func codeKDCReq(c *der.Codec, r *KDCReq) {
	der.Either(c, &r.MsgType, KRB_AS_REQ, KRB_TGS_REQ)
	c.Application(uint8(r.MsgType), func() {
		c.Const(1, PVNO)
		c.Const(2, int32(r.MsgType))
		der.Optional(c, 3, r.PAData != nil, codeMethodData, &r.PAData)
		der.Field(c, 4, codeKDCReqBody, &r.Body)
	})
}

// KDCReqBody is what a request asks for, and what the checksum in a TGS-REQ's authenticator or its
// FAST armor covers.
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
// (RFC 4120, Section 5.4.1)
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

	// Raw is the encoding that the body was parsed from. Marshal repeats it; nil means to encode the
	// fields.
	Raw []byte
}

func ParseKDCReqBody(b []byte) (*KDCReqBody, error) { return parse(b, "KDC-REQ-BODY", codeKDCReqBody) }

// Marshal returns the DER encoding: Raw if there is one.
func (r *KDCReqBody) Marshal() []byte { return der.AppendCoded(nil, codeKDCReqBody, r) }

func codeKDCReqBody(c *der.Codec, r *KDCReqBody) {
	c.Raw(&r.Raw, func() {
		c.Sequence(func() {
			der.Field(c, 0, der.Flags, &r.KDCOptions)
			der.Optional(c, 1, !r.CName.IsZero(), codePrincipalName, &r.CName)
			der.Field(c, 2, der.GeneralString, &r.Realm)
			der.Optional(c, 3, !r.SName.IsZero(), codePrincipalName, &r.SName)
			der.Optional(c, 4, !r.From.IsZero(), der.Time, &r.From)
			der.Field(c, 5, der.Time, &r.Till)
			der.Optional(c, 6, !r.RTime.IsZero(), der.Time, &r.RTime)
			der.Field(c, 7, der.Uint32, &r.Nonce)
			der.Field(c, 8, der.ListOf(der.Int32[enctype.ID]), &r.EType)
			der.Optional(c, 9, r.Addresses != nil, codeHostAddresses, &r.Addresses)
			der.Optional(c, 10, r.EncAuthorizationData != nil, der.Pointer(codeEncryptedData), &r.EncAuthorizationData)
			der.Optional(c, 11, r.AdditionalTickets != nil, der.ListOf(codeTicket), &r.AdditionalTickets)
		})
	})
}
