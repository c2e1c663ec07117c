package messages

import "github.com/caddy-negotiate/caddy-negotiate/internal/der"

// PAPKASRep is the KDC's reply to a PAPKASReq. One of its fields is set.
//
//	PA-PK-AS-REP ::= CHOICE {
//	        dhInfo                  [0] DHRepInfo,
//	        encKeyPack              [1] IMPLICIT OCTET STRING,
//	        ...
//	}
//
// (RFC 4556, Section 3.2.3)
type PAPKASRep struct {
	DHInfo     *DHRepInfo
	EncKeyPack []byte // of RSA key transport
}

// ParsePAPKASRep reads the value of PA_PK_AS_REP in a reply.
func ParsePAPKASRep(b []byte) (*PAPKASRep, error) { return parse(b, "PA-PK-AS-REP", codePAPKASRep) }
func (p *PAPKASRep) Marshal() []byte              { return der.AppendCoded(nil, codePAPKASRep, p) }

func codePAPKASRep(c *der.Codec, p *PAPKASRep) {
	if !der.Optional(c, 0, p.DHInfo != nil, der.Pointer(codeDHRepInfo), &p.DHInfo) {
		der.ImplicitOctets(c, 1, &p.EncKeyPack)
	}
}

// DHRepInfo is the KDC's part of a Diffie-Hellman exchange.
//
//	DHRepInfo ::= SEQUENCE {
//	        dhSignedData            [0] IMPLICIT OCTET STRING,
//	        serverDHNonce           [1] DHNonce OPTIONAL,
//	        ...,
//	        kdf                     [2] KDFAlgorithmId OPTIONAL,
//	        ...
//	}
//
// (RFC 8636, Section 5)
type DHRepInfo struct {
	DHSignedData  []byte // CMS SignedData of a KDCDHKeyInfo
	ServerDHNonce []byte // only if the client sent a nonce
	KDF           *KDFAlgorithmID
}

func codeDHRepInfo(c *der.Codec, d *DHRepInfo) {
	c.Sequence(func() {
		der.ImplicitOctets(c, 0, &d.DHSignedData)
		der.Optional(c, 1, d.ServerDHNonce != nil, der.Octets, &d.ServerDHNonce)
		der.Optional(c, 2, d.KDF != nil, der.Pointer(codeKDFAlgorithmID), &d.KDF)
	})
}
