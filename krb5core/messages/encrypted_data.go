package messages

import (
	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// EncryptedData is a ciphertext and what it takes to find its key.
//
//	EncryptedData ::= SEQUENCE {
//	        etype   [0] Int32 -- EncryptionType --,
//	        kvno    [1] UInt32 OPTIONAL,
//	        cipher  [2] OCTET STRING -- ciphertext
//	}
//
// (RFC 4120, Section 5.2.9)
type EncryptedData struct {
	EType   enctype.ID
	KVNO    uint32 // version of a long-term key; of no meaning unless HasKVNO
	HasKVNO bool
	Cipher  []byte
}

// ParseEncryptedData reads an EncryptedData, the value of PA-ENC-TIMESTAMP and
// PA-ENCRYPTED-CHALLENGE among others.
func ParseEncryptedData(b []byte) (*EncryptedData, error) {
	return parse(b, "EncryptedData", codeEncryptedData)
}

func (e EncryptedData) Marshal() []byte { return der.AppendCoded(nil, codeEncryptedData, &e) }

func codeEncryptedData(c *der.Codec, e *EncryptedData) {
	c.Sequence(func() {
		der.Field(c, 0, der.Int32, &e.EType)
		der.OptionalHas(c, 1, &e.HasKVNO, der.Uint32, &e.KVNO)
		der.Field(c, 2, der.Octets, &e.Cipher)
	})
}

// Checksum is a checksum, keyed or not.
//
//	Checksum ::= SEQUENCE {
//	        cksumtype       [0] Int32,
//	        checksum        [1] OCTET STRING
//	}
//
// (RFC 4120, Section 5.2.9)
type Checksum struct {
	Type  enctype.ChecksumType
	Value []byte
}

// ParseChecksum reads a Checksum, the value of PA-REQ-ENC-PA-REP in a reply (RFC 6806, Section 11).
func ParseChecksum(b []byte) (*Checksum, error) { return parse(b, "Checksum", codeChecksum) }

func (c Checksum) Marshal() []byte { return der.AppendCoded(nil, codeChecksum, &c) }

func codeChecksum(c *der.Codec, sum *Checksum) { codeTyped(c, 0, &sum.Type, &sum.Value) }
