package enctype

import (
	"crypto/fips140"
	"crypto/hmac"
	"crypto/sha1"
	"fmt"

	"golang.org/x/crypto/md4"
)

// ChecksumType is a checksum type as registered with IANA (Kerberos Checksum
// Type Numbers), or one of Microsoft's.
type ChecksumType int32

// Unkeyed checksums, which Digest computes.
const (
	CKSUMTYPE_CRC32   ChecksumType = 1  // RFC 3961, Section 6.1.3
	CKSUMTYPE_RSA_MD4 ChecksumType = 2  // RFC 3961, Section 6.1.2
	CKSUMTYPE_RSA_MD5 ChecksumType = 7  // RFC 3961, Section 6.1.1
	CKSUMTYPE_SHA1    ChecksumType = 14 // RFC 3961, Section 8
)

// Keyed checksums.
const (
	CKSUMTYPE_RSA_MD5_DES            ChecksumType = 8    // RFC 3961, Section 6.2.4
	CKSUMTYPE_HMAC_SHA1_DES3_KD      ChecksumType = 12   // RFC 3961, Section 6.3
	CKSUMTYPE_HMAC_SHA1_96_AES128    ChecksumType = 15   // RFC 3962, Section 7
	CKSUMTYPE_HMAC_SHA1_96_AES256    ChecksumType = 16   // RFC 3962, Section 7
	CKSUMTYPE_CMAC_CAMELLIA128       ChecksumType = 17   // RFC 6803, Section 7
	CKSUMTYPE_CMAC_CAMELLIA256       ChecksumType = 18   // RFC 6803, Section 7
	CKSUMTYPE_HMAC_SHA256_128_AES128 ChecksumType = 19   // RFC 8009, Section 6
	CKSUMTYPE_HMAC_SHA384_192_AES256 ChecksumType = 20   // RFC 8009, Section 6
	KERB_CHECKSUM_MD5_HMAC           ChecksumType = -137 // [MS-KILE], Section 3.1.5.6
	KERB_CHECKSUM_HMAC_MD5           ChecksumType = -138 // RFC 4757, Section 4
)

var checksumNames = map[ChecksumType]string{
	CKSUMTYPE_CRC32:                  "crc32",
	CKSUMTYPE_RSA_MD4:                "rsa-md4",
	CKSUMTYPE_RSA_MD5:                "rsa-md5",
	CKSUMTYPE_SHA1:                   "sha1",
	CKSUMTYPE_RSA_MD5_DES:            "rsa-md5-des",
	CKSUMTYPE_HMAC_SHA1_DES3_KD:      "hmac-sha1-des3-kd",
	CKSUMTYPE_HMAC_SHA1_96_AES128:    "hmac-sha1-96-aes128",
	CKSUMTYPE_HMAC_SHA1_96_AES256:    "hmac-sha1-96-aes256",
	CKSUMTYPE_CMAC_CAMELLIA128:       "cmac-camellia128",
	CKSUMTYPE_CMAC_CAMELLIA256:       "cmac-camellia256",
	CKSUMTYPE_HMAC_SHA256_128_AES128: "hmac-sha256-128-aes128",
	CKSUMTYPE_HMAC_SHA384_192_AES256: "hmac-sha384-192-aes256",
	KERB_CHECKSUM_MD5_HMAC:           "kerb-checksum-md5-hmac",
	KERB_CHECKSUM_HMAC_MD5:           "kerb-checksum-hmac-md5",
}

// String returns the IANA name in lower case, or "checksum type N".
func (t ChecksumType) String() string {
	if name := checksumNames[t]; name != "" {
		return name
	}
	return fmt.Sprintf("checksum type %d", int32(t))
}

// ChecksumType returns the type that Checksum makes, the mandatory one of the
// key's type, 0 for a key that is none or not supported.
func (k Key) ChecksumType() ChecksumType {
	if p := profiles[k.EType()]; p != nil {
		return p.checksumType
	}
	return 0
}

// Checksum returns the mandatory checksum of the key's type over data (RFC
// 3961, Section 3, get_mic).
func (k Key) Checksum(usage Usage, data []byte) ([]byte, error) {
	p, err := k.profile()
	if err != nil {
		return nil, err
	}
	return p.checksum(p, k.Bytes(), usage, data), nil
}

// VerifyChecksum returns nil if sum is the checksum of type t over data, in a time
// that does not depend on what it should be, and else ErrIntegrity. A peer may
// send the mandatory type, KERB_CHECKSUM_HMAC_MD5 with any key, as Windows does in
// PA-FOR-USER, and KERB_CHECKSUM_MD5_HMAC with RC4. Other types are ErrUnsupported;
// unkeyed ones prove nothing.
func (k Key) VerifyChecksum(t ChecksumType, usage Usage, data, sum []byte) error {
	p, err := k.profile()
	if err != nil {
		return err
	}
	var ok bool
	switch {
	case t == CKSUMTYPE_RSA_MD5_DES && t == p.checksumType:
		ok = desChecksumMatches(k.Bytes(), data, sum)
	case t == p.checksumType:
		ok = hmac.Equal(sum, p.checksum(p, k.Bytes(), usage, data))
	case t == KERB_CHECKSUM_HMAC_MD5 && !fips140.Enforced():
		ok = hmac.Equal(sum, hmacMD5(k.Bytes(), usage, data))
	case t == KERB_CHECKSUM_HMAC_MD5:
		return fmt.Errorf("checksum %s: %w", t, ErrNotApproved)
	case t == KERB_CHECKSUM_MD5_HMAC && p.id == RC4_HMAC:
		ok = hmac.Equal(sum, md5HMAC(k.Bytes(), usage, data))
	default:
		return fmt.Errorf("checksum %s with a %v: %w", t, k, ErrUnsupported)
	}
	if !ok {
		return fmt.Errorf("verifying checksum %s with key usage %d: %w", t, usage, ErrIntegrity)
	}
	return nil
}

// HMACMD5 returns a KERB_CHECKSUM_HMAC_MD5 made with a key of any type, as
// PA-FOR-USER wants it ([MS-SFU], Section 2.2.1). It is not approved under FIPS
// 140.
func HMACMD5(k Key, usage Usage, data []byte) ([]byte, error) {
	if k.IsZero() {
		return nil, errNoKey
	}
	if fips140.Enforced() {
		return nil, fmt.Errorf("checksum %s: %w", KERB_CHECKSUM_HMAC_MD5, ErrNotApproved)
	}
	return hmacMD5(k.Bytes(), usage, data), nil
}

// Digest returns an unkeyed checksum, which [MS-SFU], Section 2.2.2 still wants
// beside RC4 and DES keys. None of them is approved under FIPS 140.
func Digest(t ChecksumType, data []byte) ([]byte, error) {
	if fips140.Enforced() {
		return nil, fmt.Errorf("checksum %s: %w", t, ErrNotApproved)
	}
	switch t {
	case CKSUMTYPE_CRC32:
		return crc(data), nil
	case CKSUMTYPE_RSA_MD4:
		h := md4.New()
		h.Write(data)
		return h.Sum(nil), nil
	case CKSUMTYPE_RSA_MD5:
		return md5Sum(data), nil
	case CKSUMTYPE_SHA1:
		sum := sha1.Sum(data)
		return sum[:], nil
	}
	return nil, fmt.Errorf("unkeyed checksum %s: %w", t, ErrUnsupported)
}
