package pac

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// usageSignature is the key usage of signatures: KERB_NON_KERB_CKSUM_SALT ([MS-PAC], Section 2.8).
const usageSignature enctype.Usage = 17

const sizeSignatureType = 4

// signatureSizes are the sizes of the checksums that KDCs sign with ([MS-PAC], Section 2.8, and
// MIT's further types), in bytes. A read-only domain controller's number may follow the checksum.
var signatureSizes = map[enctype.ChecksumType]int{
	enctype.KERB_CHECKSUM_HMAC_MD5:           16,
	enctype.CKSUMTYPE_HMAC_SHA1_DES3_KD:      20,
	enctype.CKSUMTYPE_HMAC_SHA1_96_AES128:    12,
	enctype.CKSUMTYPE_HMAC_SHA1_96_AES256:    12,
	enctype.CKSUMTYPE_CMAC_CAMELLIA128:       16,
	enctype.CKSUMTYPE_CMAC_CAMELLIA256:       16,
	enctype.CKSUMTYPE_HMAC_SHA256_128_AES128: 16,
	enctype.CKSUMTYPE_HMAC_SHA384_192_AES256: 24,
}

// signature returns the type of a signature and the place of its value.
func (p *PAC) signature(at buffer) (t enctype.ChecksumType, start, end int, err error) {
	content := p.raw[at.start:at.end]
	if len(content) < sizeSignatureType {
		return 0, 0, 0, malformed("buffer %d: %w", at.kind, errShort)
	}
	t = enctype.ChecksumType(binary.LittleEndian.Uint32(content))
	size, known := signatureSizes[t]
	if !known || len(content) < sizeSignatureType+size {
		return 0, 0, 0, malformed("buffer %d: %s of %d bytes", at.kind, t, len(content)-sizeSignatureType)
	}
	start = at.start + sizeSignatureType
	return t, start, start + size, nil
}

// verifySignature verifies the server's signature. It covers the PAC with both signatures' values
// zero ([MS-PAC], Section 2.8.1), and its type is the one of the key: another would prove less.
func (p *PAC) verifySignature(key enctype.Key) error {
	signed := bytes.Clone(p.raw)
	t, start, end, err := p.signature(p.serverSignature)
	if err != nil {
		return err
	}
	clear(signed[start:end])
	if p.kdcSignature.kind != 0 {
		_, start, end, err := p.signature(p.kdcSignature)
		if err != nil {
			return err
		}
		clear(signed[start:end])
	}
	if t != key.ChecksumType() {
		return fmt.Errorf("PAC is signed with %s, not %s: %w", t, key.ChecksumType(), enctype.ErrUnsupported)
	}
	if err := key.VerifyChecksum(t, usageSignature, signed, p.raw[start:end]); err != nil {
		return fmt.Errorf("PAC: server signature: %w", err)
	}
	return nil
}
