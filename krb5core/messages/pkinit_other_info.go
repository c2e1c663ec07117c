package messages

import (
	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// PKINITOtherInfo is what a key derivation function of PKINIT digests beside the shared secret.
//
//	OtherInfo ::= SEQUENCE {
//	        algorithmID             AlgorithmIdentifier,
//	        partyUInfo              [0] OCTET STRING,
//	        partyVInfo              [1] OCTET STRING,
//	        suppPubInfo             [2] OCTET STRING OPTIONAL,
//	        suppPrivInfo            [3] OCTET STRING OPTIONAL
//	}
//
// (RFC 8636, Section 6)
type PKINITOtherInfo struct {
	AlgorithmID AlgorithmIdentifier
	PartyUInfo  KRB5PrincipalName // the client
	PartyVInfo  KRB5PrincipalName // the ticket-granting service
	SuppPubInfo PKINITSuppPubInfo
}

func (o *PKINITOtherInfo) Marshal() []byte { return der.AppendCoded(nil, codePKINITOtherInfo, o) }

func codePKINITOtherInfo(c *der.Codec, o *PKINITOtherInfo) {
	u, v, pub := o.PartyUInfo.Marshal(), o.PartyVInfo.Marshal(), der.AppendCoded(nil, codePKINITSuppPubInfo, &o.SuppPubInfo)
	c.Element(der.TagSequence, func() {
		CodeAlgorithmIdentifier(c, &o.AlgorithmID)
		der.Field(c, 0, der.Octets, &u)
		der.Field(c, 1, der.Octets, &v)
		der.Field(c, 2, der.Octets, &pub)
	})
}

// PKINITSuppPubInfo has the messages that the key belongs to.
//
//	PkinitSuppPubInfo ::= SEQUENCE {
//	        enctype                 [0] Int32,
//	        as-REQ                  [1] OCTET STRING,
//	        pk-as-rep               [2] OCTET STRING,
//	        ...
//	}
//
// (RFC 8636, Section 6)
type PKINITSuppPubInfo struct {
	EType   enctype.ID
	ASReq   []byte // the request as it was sent
	PKASRep []byte // the value of PA_PK_AS_REP
}

func codePKINITSuppPubInfo(c *der.Codec, p *PKINITSuppPubInfo) {
	c.Sequence(func() {
		der.Field(c, 0, der.Int32, &p.EType)
		der.Field(c, 1, der.Octets, &p.ASReq)
		der.Field(c, 2, der.Octets, &p.PKASRep)
	})
}
