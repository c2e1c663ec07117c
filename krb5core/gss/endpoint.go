package gss

import (
	"crypto"
	_ "crypto/sha256" // this and the next two: the hashes of endPointHashes
	_ "crypto/sha3"
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// ErrNoEndPointHash means that tls-server-end-point is not defined for a certificate: RFC 5929,
// Section 4.1 covers only signatures with one hash function, which Ed25519 does not have.
var ErrNoEndPointHash = errors.New("RFC 5929 defines no tls-server-end-point channel binding for the certificate's signature")

// Object identifiers, as the content of their DER encoding.
const (
	oidPKCS1    = "\x2a\x86\x48\x86\xf7\x0d\x01\x01" // 1.2.840.113549.1.1, RSA (RFC 8017 A, RFC 4055)
	oidECDSA    = "\x2a\x86\x48\xce\x3d\x04"         // 1.2.840.10045.4, ECDSA (RFC 3279, Section 2.2.3, RFC 5758, Section 3.2)
	oidSigAlgs  = "\x60\x86\x48\x01\x65\x03\x04\x03" // 2.16.840.1.101.3.4.3, NIST's signatures
	oidHashAlgs = "\x60\x86\x48\x01\x65\x03\x04\x02" // 2.16.840.1.101.3.4.2, NIST's hashes
	oidPSS      = oidPKCS1 + "\x0a"                  // id-RSASSA-PSS (RFC 4055, Section 3.1)
	oidMGF1     = oidPKCS1 + "\x08"                  // id-mgf1
	oidSHA1     = "\x2b\x0e\x03\x02\x1a"             // 1.3.14.3.2.26
	oidDSASHA1  = "\x2a\x86\x48\xce\x38\x04\x03"     // 1.2.840.10040.4.3 (RFC 3279, Section 2.2.2)
	oidOIWRSA   = "\x2b\x0e\x03\x02\x1d"             // 1.3.14.3.2.29, sha1WithRSASignature of the OIW
)

// endPointHashes are the hash functions of signature algorithms (and of RSASSA-PSS's parameters),
// MD2, MD5 and SHA-1 already replaced by SHA-256, as RFC 5929, Section 4.1 says.
var endPointHashes = map[string]crypto.Hash{
	oidPKCS1 + "\x02": crypto.SHA256, // md2WithRSAEncryption
	oidPKCS1 + "\x04": crypto.SHA256, // md5WithRSAEncryption
	oidPKCS1 + "\x05": crypto.SHA256, // sha1WithRSAEncryption
	oidOIWRSA:         crypto.SHA256,
	oidPKCS1 + "\x0b": crypto.SHA256,
	oidPKCS1 + "\x0c": crypto.SHA384,
	oidPKCS1 + "\x0d": crypto.SHA512,
	oidPKCS1 + "\x0e": crypto.SHA224,
	oidPKCS1 + "\x0f": crypto.SHA512_224, // RFC 8017
	oidPKCS1 + "\x10": crypto.SHA512_256,

	oidECDSA + "\x01":     crypto.SHA256, // ecdsa-with-SHA1
	oidECDSA + "\x03\x01": crypto.SHA224,
	oidECDSA + "\x03\x02": crypto.SHA256,
	oidECDSA + "\x03\x03": crypto.SHA384,
	oidECDSA + "\x03\x04": crypto.SHA512,

	oidDSASHA1:          crypto.SHA256,
	oidSigAlgs + "\x01": crypto.SHA224, // DSA (RFC 5758, Section 3.1)
	oidSigAlgs + "\x02": crypto.SHA256,
	oidSigAlgs + "\x03": crypto.SHA384,
	oidSigAlgs + "\x04": crypto.SHA512,

	oidSigAlgs + "\x09": crypto.SHA3_224, // ECDSA (RFC 8692)
	oidSigAlgs + "\x0a": crypto.SHA3_256,
	oidSigAlgs + "\x0b": crypto.SHA3_384,
	oidSigAlgs + "\x0c": crypto.SHA3_512,
	oidSigAlgs + "\x0d": crypto.SHA3_224, // RSA PKCS #1 v1.5
	oidSigAlgs + "\x0e": crypto.SHA3_256,
	oidSigAlgs + "\x0f": crypto.SHA3_384,
	oidSigAlgs + "\x10": crypto.SHA3_512,

	oidSHA1:              crypto.SHA256,
	oidHashAlgs + "\x01": crypto.SHA256,
	oidHashAlgs + "\x02": crypto.SHA384,
	oidHashAlgs + "\x03": crypto.SHA512,
	oidHashAlgs + "\x04": crypto.SHA224,
	oidHashAlgs + "\x05": crypto.SHA512_224,
	oidHashAlgs + "\x06": crypto.SHA512_256,
}

// EndPointHash returns the hash of a server's certificate for tls-server-end-point (RFC 5929,
// Section 4.1): with the hash function of its signature, or SHA-256 if that is MD5 or SHA-1. For a
// certificate whose signature has no such function, it returns an error that wraps
// ErrNoEndPointHash.
//
// The algorithm is read from the certificate itself: crypto/x509 does not distinguish those that it
// cannot verify.
func EndPointHash(cert *x509.Certificate) ([]byte, error) {
	algorithm, params, ok := signatureAlgorithm(cert.Raw)
	if !ok {
		return nil, fmt.Errorf("%w: its algorithm cannot be read", ErrNoEndPointHash)
	}
	if algorithm == oidPSS {
		if algorithm, ok = pssHash(params); !ok {
			return nil, fmt.Errorf("%w: RSASSA-PSS without a single hash function", ErrNoEndPointHash)
		}
	}
	hash, ok := endPointHashes[algorithm]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNoEndPointHash, cert.SignatureAlgorithm)
	}
	h := hash.New()
	h.Write(cert.Raw)
	return h.Sum(nil), nil
}

// signatureAlgorithm reads the algorithm that a certificate is signed with, and its parameters.
//
//	Certificate  ::=  SEQUENCE  {
//	     tbsCertificate       TBSCertificate,
//	     signatureAlgorithm   AlgorithmIdentifier,
//	     signatureValue       BIT STRING  }
//
// (RFC 5280, Section 4.1)
func signatureAlgorithm(cert []byte) (algorithm string, params der.String, ok bool) {
	s := der.String(cert)
	var fields der.String
	var tbs []byte
	if !s.ReadASN1(&fields, der.TagSequence) || !der.ReadRaw(&fields, &tbs) {
		return "", nil, false
	}
	return readAlgorithm(&fields)
}

// readAlgorithm reads an identifier and returns its parameters, if any.
//
//	AlgorithmIdentifier  ::=  SEQUENCE  {
//	     algorithm               OBJECT IDENTIFIER,
//	     parameters              ANY DEFINED BY algorithm OPTIONAL  }
//
// (RFC 5280, Section 4.1.1.2)
func readAlgorithm(s *der.String) (algorithm string, params der.String, ok bool) {
	var oid []byte
	ok = s.ReadASN1(&params, der.TagSequence) && der.ReadOID(&params, &oid)
	return string(oid), params, ok
}

// pssHash reads the hash function of RSASSA-PSS, if message and mask use the same.
//
//	RSASSA-PSS-params  ::=  SEQUENCE  {
//	   hashAlgorithm     [0] HashAlgorithm DEFAULT sha1Identifier,
//	   maskGenAlgorithm  [1] MaskGenAlgorithm DEFAULT mgf1SHA1Identifier,
//	   saltLength        [2] INTEGER DEFAULT 20,
//	   trailerField      [3] INTEGER DEFAULT 1  }
//
// (RFC 4055, Section 3.1)
func pssHash(params der.String) (algorithm string, ok bool) {
	var fields der.String
	hash, mask := oidSHA1, oidSHA1
	readHash := func(s *der.String, out *string) (ok bool) {
		*out, _, ok = readAlgorithm(s)
		return ok
	}
	readMask := func(s *der.String, out *string) bool {
		generator, params, ok := readAlgorithm(s)
		return ok && generator == oidMGF1 && readHash(&params, out)
	}
	ok = params.ReadASN1(&fields, der.TagSequence) &&
		der.ReadOptional(&fields, 0, readHash, &hash) &&
		der.ReadOptional(&fields, 1, readMask, &mask)
	return hash, ok && hash == mask
}
