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
// (RFC 4120 5.2.9)
type EncryptedData struct {
	EType   enctype.ID
	KVNO    uint32 // version of a long-term key; of no meaning unless HasKVNO
	HasKVNO bool
	Cipher  []byte
}

// ParseEncryptedData reads an EncryptedData, the value of PA-ENC-TIMESTAMP and PA-ENCRYPTED-CHALLENGE among others.
func ParseEncryptedData(b []byte) (*EncryptedData, error) {
	return parse(b, "EncryptedData", readEncryptedData)
}

// Append appends the DER encoding.
func (e EncryptedData) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, e.EType)
		if e.HasKVNO {
			dst = der.AppendField(dst, 1, der.AppendInt, e.KVNO)
		}
		return der.AppendField(dst, 2, der.AppendOctetString, e.Cipher)
	})
}

// Marshal returns the DER encoding.
func (e EncryptedData) Marshal() []byte { return e.Append(nil) }

func readEncryptedData(s *der.String, e *EncryptedData) bool {
	var seq der.String
	if !der.ReadSequence(s, &seq) || !der.ReadField(&seq, 0, der.ReadInt32, &e.EType) {
		return false
	}
	e.HasKVNO = der.Next(&seq, der.Context(1))
	return der.ReadOptional(&seq, 1, der.ReadUint32, &e.KVNO) &&
		der.ReadField(&seq, 2, der.ReadOctets, &e.Cipher) &&
		der.SkipUnknown(&seq, 2)
}

// Checksum is a checksum, keyed or not.
//
//	Checksum ::= SEQUENCE {
//	        cksumtype       [0] Int32,
//	        checksum        [1] OCTET STRING
//	}
//
// (RFC 4120 5.2.9)
type Checksum struct {
	Type  enctype.ChecksumType
	Value []byte
}

// ParseChecksum reads a Checksum, the value of PA-REQ-ENC-PA-REP in a reply (RFC 6806 11).
func ParseChecksum(b []byte) (*Checksum, error) { return parse(b, "Checksum", readChecksum) }

// Append appends the DER encoding.
func (c Checksum) Append(dst []byte) []byte {
	return der.AppendSequence(dst, func(dst []byte) []byte {
		dst = der.AppendField(dst, 0, der.AppendInt, c.Type)
		return der.AppendField(dst, 1, der.AppendOctetString, c.Value)
	})
}

// Marshal returns the DER encoding.
func (c Checksum) Marshal() []byte { return c.Append(nil) }

func readChecksum(s *der.String, c *Checksum) bool {
	var seq der.String
	return der.ReadSequence(s, &seq) &&
		der.ReadField(&seq, 0, der.ReadInt32, &c.Type) &&
		der.ReadField(&seq, 1, der.ReadOctets, &c.Value) &&
		der.SkipUnknown(&seq, 1)
}
