package pkinit

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// signedData is a ContentInfo with a SignedData.
//
//	ContentInfo ::= SEQUENCE {
//	        contentType             ContentType,
//	        content                 [0] EXPLICIT ANY DEFINED BY contentType }
//	SignedData ::= SEQUENCE {
//	        version                 CMSVersion,
//	        digestAlgorithms        SET OF DigestAlgorithmIdentifier,
//	        encapContentInfo        EncapsulatedContentInfo,
//	        certificates            [0] IMPLICIT CertificateSet OPTIONAL,
//	        crls                    [1] IMPLICIT RevocationInfoChoices OPTIONAL,
//	        signerInfos             SET OF SignerInfo }
//	EncapsulatedContentInfo ::= SEQUENCE {
//	        eContentType            ContentType,
//	        eContent                [0] EXPLICIT OCTET STRING OPTIONAL }
//
// (RFC 5652, Sections 3 and 5.1)
type signedData struct {
	version          int32
	digestAlgorithms []messages.AlgorithmIdentifier
	contentType      []byte
	content          []byte
	certificates     [][]byte // and other CertificateChoices, in DER
	crls             []byte
	signers          []signerInfo
}

// signerInfo is one signature.
//
//	SignerInfo ::= SEQUENCE {
//	        version                 CMSVersion,
//	        sid                     SignerIdentifier,
//	        digestAlgorithm         DigestAlgorithmIdentifier,
//	        signedAttrs             [0] IMPLICIT SignedAttributes OPTIONAL,
//	        signatureAlgorithm      SignatureAlgorithmIdentifier,
//	        signature               SignatureValue,
//	        unsignedAttrs           [1] IMPLICIT UnsignedAttributes OPTIONAL }
//	SignerIdentifier ::= CHOICE {
//	        issuerAndSerialNumber   IssuerAndSerialNumber,
//	        subjectKeyIdentifier    [0] SubjectKeyIdentifier }
//
// (RFC 5652, Section 5.3)
type signerInfo struct {
	version            int32
	sid                []byte // either choice, in DER
	digestAlgorithm    messages.AlgorithmIdentifier
	signedAttrs        []byte // in DER, with the tag [0]
	signatureAlgorithm messages.AlgorithmIdentifier
	signature          []byte
	unsignedAttrs      []byte
}

// attribute is a signed attribute.
//
//	Attribute ::= SEQUENCE {
//	        attrType                OBJECT IDENTIFIER,
//	        attrValues              SET OF AttributeValue }
//
// (RFC 5652, Section 5.3)
type attribute struct {
	kind   []byte
	values [][]byte // in DER
}

func codeContentInfo(c *der.Codec, s *signedData) {
	kind := []byte(oidSignedData)
	c.Element(der.TagSequence, func() {
		der.OID(c, &kind)
		c.Require(string(kind) == oidSignedData)
		c.Element(der.Context(0), func() { codeSignedData(c, s) })
	})
}

func codeSignedData(c *der.Codec, s *signedData) {
	c.Element(der.TagSequence, func() {
		der.Int32(c, &s.version)
		der.ListIn(c, der.TagSet, messages.CodeAlgorithmIdentifier, &s.digestAlgorithms)
		c.Element(der.TagSequence, func() {
			der.OID(c, &s.contentType)
			c.Element(der.Context(0), func() { der.Octets(c, &s.content) })
		})
		if len(s.certificates) > 0 || c.Next(der.Context(0)) {
			der.ListIn(c, der.Context(0), der.Any, &s.certificates)
		}
		if c.Next(der.Context(1)) {
			der.Any(c, &s.crls)
		}
		der.ListIn(c, der.TagSet, codeSignerInfo, &s.signers)
	})
}

func codeSignerInfo(c *der.Codec, i *signerInfo) {
	c.Element(der.TagSequence, func() {
		der.Int32(c, &i.version)
		der.Any(c, &i.sid)
		messages.CodeAlgorithmIdentifier(c, &i.digestAlgorithm)
		c.Require(c.Next(der.Context(0)))
		der.Any(c, &i.signedAttrs)
		messages.CodeAlgorithmIdentifier(c, &i.signatureAlgorithm)
		der.Octets(c, &i.signature)
		if c.Next(der.Context(1)) {
			der.Any(c, &i.unsignedAttrs)
		}
	})
}

func codeAttributes(tag der.Tag) func(*der.Codec, *[]attribute) {
	return func(c *der.Codec, list *[]attribute) { der.ListIn(c, tag, codeAttribute, list) }
}

func codeAttribute(c *der.Codec, a *attribute) {
	c.Element(der.TagSequence, func() {
		der.OID(c, &a.kind)
		der.ListIn(c, der.TagSet, der.Any, &a.values)
	})
}

// Sign returns a SignedData of the content, signed with SHA-256. Without an identity it has no
// signer, as anonymous clients send it (RFC 8062, Section 4).
func Sign(kind ContentType, content []byte, by *Identity, rand io.Reader) ([]byte, error) {
	s := signedData{version: 3, digestAlgorithms: []messages.AlgorithmIdentifier{}, contentType: []byte(kind), content: content}
	if by != nil {
		signer, err := by.sign(kind, content, rand)
		if err != nil {
			return nil, fmt.Errorf("signing with the key of certificate %s: %w", by.Leaf().Subject, err)
		}
		s.digestAlgorithms = append(s.digestAlgorithms, signer.digestAlgorithm)
		s.signers = []signerInfo{signer}
		for _, c := range by.chain {
			s.certificates = append(s.certificates, c.Raw)
		}
		slices.SortFunc(s.certificates, bytes.Compare) // the order of a SET OF in DER
	}
	return der.AppendCoded(nil, codeContentInfo, &s), nil
}

func (i *Identity) sign(kind ContentType, content []byte, rand io.Reader) (signerInfo, error) {
	attrs := []attribute{ // in the order of DER
		{[]byte(oidAttrContentType), [][]byte{der.AppendOID(nil, []byte(kind))}},
		{[]byte(oidMessageDigest), [][]byte{der.AppendOctetString(nil, digest(crypto.SHA256, content))}},
	}
	signature, err := i.key.Sign(rand, digest(crypto.SHA256, der.AppendCoded(nil, codeAttributes(der.TagSet), &attrs)), crypto.SHA256)
	if err != nil {
		return signerInfo{}, err
	}
	info := signerInfo{
		version: 1, sid: issuerAndSerialNumber(i.Leaf()), digestAlgorithm: algorithm(oidSHA256),
		signedAttrs: der.AppendCoded(nil, codeAttributes(der.Context(0)), &attrs),
		signature:   signature, signatureAlgorithm: algorithm(oidECDSAWithSHA256),
	}
	if _, ok := i.key.Public().(*rsa.PublicKey); ok {
		info.signatureAlgorithm = messages.AlgorithmIdentifier{Algorithm: []byte(oidSHA256WithRSA), Parameters: null}
	}
	return info, nil
}

// issuerAndSerialNumber identifies a certificate (RFC 5652, Section 10.2.4).
func issuerAndSerialNumber(c *x509.Certificate) []byte {
	return der.Append(nil, der.TagSequence, func(dst []byte) []byte {
		serial := c.SerialNumber.Bytes()
		if len(serial) == 0 || serial[0] >= 0x80 {
			serial = append([]byte{0}, serial...)
		}
		return der.AppendBytes(append(dst, c.RawIssuer...), der.TagInteger, serial)
	})
}

// Signed is a SignedData whose signature is right. Whether its signer is to be trusted remains to
// be checked.
type Signed struct {
	Content []byte
	Signer  *x509.Certificate // nil if there is none
	Digest  crypto.Hash       // of the signature

	others []*x509.Certificate // that came with it
}

// maxCertificates bounds the certificates that one message may bring.
const maxCertificates = 16

var errCMS = errors.New("malformed CMS SignedData")

// Verify opens a SignedData of this content. Its only signature must be right; a SignedData without
// one has no Signer.
func Verify(kind ContentType, cms []byte) (*Signed, error) {
	rest, s := der.String(cms), new(signedData)
	if !der.ReadCoded(&rest, codeContentInfo, s) || !rest.Empty() {
		return nil, fmt.Errorf("%w: %d bytes", errCMS, len(cms))
	}
	if string(s.contentType) != string(kind) {
		return nil, fmt.Errorf("%w: its content is of type %s, not %s", errCMS, oidText(s.contentType), oidText([]byte(kind)))
	}
	if len(s.certificates) > maxCertificates {
		return nil, fmt.Errorf("%w: %d certificates, more than %d", errCMS, len(s.certificates), maxCertificates)
	}
	signed := &Signed{Content: s.content}
	switch len(s.signers) {
	case 0:
		return signed, nil
	case 1:
		return signed, signed.verify(kind, s)
	default:
		return nil, fmt.Errorf("%w: %d signers, not one", errCMS, len(s.signers))
	}
}

func (s *Signed) verify(kind ContentType, data *signedData) error {
	info := &data.signers[0]
	for _, raw := range data.certificates {
		if c, err := x509.ParseCertificate(raw); err == nil && affordable(c) { // others are no use for a chain
			s.others = append(s.others, c)
		}
	}
	at := slices.IndexFunc(s.others, info.isOf)
	if at < 0 {
		return fmt.Errorf("%w: the signer's certificate is missing, or cannot be read", errCMS)
	}
	s.Signer = s.others[at]
	var ok bool
	if s.Digest, ok = digests[string(info.digestAlgorithm.Algorithm)]; !ok {
		return fmt.Errorf("CMS signature with the digest %s, which is not supported", oidText(info.digestAlgorithm.Algorithm))
	}
	if err := info.checkAttributes(kind, digest(s.Digest, data.content)); err != nil {
		return err
	}
	// The signature is over the attributes with the tag of a SET (RFC 5652, Section 5.4).
	attrs := slices.Clone(info.signedAttrs)
	attrs[0] = byte(der.TagSet)
	return checkSignature(s.Signer, s.Digest, digest(s.Digest, attrs), info.signature)
}

// maxRSABits is the length of the longest RSA key that is used, the same as in package crypto/tls.
// Who forges a reply chooses the key, and verifying with one of a megabit takes minutes.
const maxRSABits = 8192

func affordable(c *x509.Certificate) bool {
	key, ok := c.PublicKey.(*rsa.PublicKey)
	return !ok || key.N.BitLen() <= maxRSABits
}

// isOf reports whether the signature is said to be by this certificate.
func (i *signerInfo) isOf(c *x509.Certificate) bool {
	return bytes.Equal(i.sid, issuerAndSerialNumber(c)) ||
		len(c.SubjectKeyId) > 0 && bytes.Equal(i.sid, der.AppendBytes(nil, der.ContextPrimitive(0), c.SubjectKeyId))
}

// checkAttributes compares the signed attributes with the content, which the signature covers
// through them only (RFC 5652, Section 5.6).
func (i *signerInfo) checkAttributes(kind ContentType, sum []byte) error {
	var attrs []attribute
	rest := der.String(i.signedAttrs)
	if !der.ReadCoded(&rest, codeAttributes(der.Context(0)), &attrs) {
		return fmt.Errorf("%w: signed attributes", errCMS)
	}
	for _, want := range []attribute{
		{[]byte(oidAttrContentType), [][]byte{der.AppendOID(nil, []byte(kind))}},
		{[]byte(oidMessageDigest), [][]byte{der.AppendOctetString(nil, sum)}},
	} {
		n := 0
		for _, a := range attrs {
			if !bytes.Equal(a.kind, want.kind) {
				continue
			}
			if n++; len(a.values) != 1 || !bytes.Equal(a.values[0], want.values[0]) {
				return fmt.Errorf("CMS signature: the signed attribute %s does not match the content", oidText(a.kind))
			}
		}
		if n != 1 {
			return fmt.Errorf("%w: %d signed attributes %s, not one", errCMS, n, oidText(want.kind))
		}
	}
	return nil
}

var errSignature = errors.New("CMS signature is wrong")

func checkSignature(c *x509.Certificate, h crypto.Hash, sum, signature []byte) error {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if err := rsa.VerifyPKCS1v15(key, h, sum, signature); err != nil {
			return fmt.Errorf("%w: %w", errSignature, err)
		}
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(key, sum, signature) {
			return errSignature
		}
	default:
		return fmt.Errorf("CMS signature by a key of type %s, which is not supported", c.PublicKeyAlgorithm)
	}
	return nil
}
