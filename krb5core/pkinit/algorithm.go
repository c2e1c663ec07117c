package pkinit

import (
	"crypto"
	_ "crypto/sha1" // digests of crypto.Hash
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Contents of OBJECT IDENTIFIERs.
const (
	oidSignedData      = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02" // RFC 5652, Section 5.1
	oidAttrContentType = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03" // RFC 5652, Section 11.1
	oidMessageDigest   = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04" // RFC 5652, Section 11.2

	oidSHA1   = "\x2b\x0e\x03\x02\x1a" // RFC 3370, Section 2.1
	oidSHA256 = "\x60\x86\x48\x01\x65\x03\x04\x02\x01"
	oidSHA384 = "\x60\x86\x48\x01\x65\x03\x04\x02\x02"
	oidSHA512 = "\x60\x86\x48\x01\x65\x03\x04\x02\x03"

	oidSHA256WithRSA   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b" // RFC 5754, Section 3.2
	oidSHA384WithRSA   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c"
	oidSHA512WithRSA   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d"
	oidECDSAWithSHA256 = "\x2a\x86\x48\xce\x3d\x04\x03\x02" // RFC 5754, Section 3.3
	oidECDSAWithSHA384 = "\x2a\x86\x48\xce\x3d\x04\x03\x03"
	oidECDSAWithSHA512 = "\x2a\x86\x48\xce\x3d\x04\x03\x04"

	oidDHPublicNumber = "\x2a\x86\x48\xce\x3e\x02\x01" // RFC 3279, Section 2.3.3
	oidECPublicKey    = "\x2a\x86\x48\xce\x3d\x02\x01" // RFC 5480, Section 2.1.1
	oidP256           = "\x2a\x86\x48\xce\x3d\x03\x01\x07"
	oidP384           = "\x2b\x81\x04\x00\x22"

	oidPKINITSAN = "\x2b\x06\x01\x05\x02\x02"                 // RFC 4556, Section 3.2.2
	oidUPN       = "\x2b\x06\x01\x04\x01\x82\x37\x14\x02\x03" // [MS-PKCA], Section 3.1.5.2.1.1

	oidKDFSHA256 = "\x2b\x06\x01\x05\x02\x03\x06\x02" // RFC 8636, Section 6
	oidKDFSHA512 = "\x2b\x06\x01\x05\x02\x03\x06\x03"
	oidKDFSHA384 = "\x2b\x06\x01\x05\x02\x03\x06\x04"
)

// ContentType says what a SignedData is of: the content of an OBJECT IDENTIFIER.
type ContentType string

// The content types of RFC 4556, Section 3.1.1.
const (
	AuthData  ContentType = "\x2b\x06\x01\x05\x02\x03\x01" // an AuthPack
	DHKeyData ContentType = "\x2b\x06\x01\x05\x02\x03\x02" // a KDCDHKeyInfo
)

var null = []byte{5, 0}

var digests = map[string]crypto.Hash{
	oidSHA1: crypto.SHA1, oidSHA256: crypto.SHA256, oidSHA384: crypto.SHA384, oidSHA512: crypto.SHA512,
}

func algorithm(oid string) messages.AlgorithmIdentifier {
	return messages.AlgorithmIdentifier{Algorithm: []byte(oid)}
}

// SupportedCMSTypes lists what [Verify] accepts, but for SHA-1 (RFC 4556, Section 3.2.1). Heimdal
// chooses SHA-1 without such a list.
func SupportedCMSTypes() []messages.AlgorithmIdentifier {
	return []messages.AlgorithmIdentifier{
		algorithm(oidSHA256), algorithm(oidSHA384), algorithm(oidSHA512),
		algorithm(oidSHA256WithRSA), algorithm(oidSHA384WithRSA), algorithm(oidSHA512WithRSA),
		algorithm(oidECDSAWithSHA256), algorithm(oidECDSAWithSHA384), algorithm(oidECDSAWithSHA512),
	}
}

// Checksums returns the digests of the KDC-REQ-BODY in a PKAuthenticator: SHA-1, which all KDCs
// require, and SHA-256, which Windows Server 2025 requires beside it.
func Checksums(body []byte) ([]byte, *messages.PAChecksum2) {
	return digest(crypto.SHA1, body), &messages.PAChecksum2{Checksum: digest(crypto.SHA256, body), Algorithm: algorithm(oidSHA256)}
}

func digest(h crypto.Hash, data []byte) []byte {
	d := h.New()
	d.Write(data)
	return d.Sum(nil)
}

// oidText is an OBJECT IDENTIFIER in its dotted form.
func oidText(content []byte) string {
	var oid x509.OID
	if err := oid.UnmarshalBinary(content); err != nil {
		return fmt.Sprintf("%x", content)
	}
	return oid.String()
}
