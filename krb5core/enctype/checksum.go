package enctype

// ChecksumType is a checksum type as registered with IANA (Kerberos Checksum
// Type Numbers), or one of Microsoft's.
type ChecksumType int32

// Checksum types. The first group is unkeyed.
const (
	CKSUMTYPE_CRC32   ChecksumType = 1  // RFC 3961 6.1.3
	CKSUMTYPE_RSA_MD4 ChecksumType = 2  // RFC 3961 6.1.2
	CKSUMTYPE_RSA_MD5 ChecksumType = 7  // RFC 3961 6.1.1
	CKSUMTYPE_SHA1    ChecksumType = 14 // RFC 3961 8

	CKSUMTYPE_RSA_MD5_DES            ChecksumType = 8    // RFC 3961 6.2.6
	CKSUMTYPE_HMAC_SHA1_DES3_KD      ChecksumType = 12   // RFC 3961 6.3
	CKSUMTYPE_HMAC_SHA1_96_AES128    ChecksumType = 15   // RFC 3962 7
	CKSUMTYPE_HMAC_SHA1_96_AES256    ChecksumType = 16   // RFC 3962 7
	CKSUMTYPE_CMAC_CAMELLIA128       ChecksumType = 17   // RFC 6803 7
	CKSUMTYPE_CMAC_CAMELLIA256       ChecksumType = 18   // RFC 6803 7
	CKSUMTYPE_HMAC_SHA256_128_AES128 ChecksumType = 19   // RFC 8009 6
	CKSUMTYPE_HMAC_SHA384_192_AES256 ChecksumType = 20   // RFC 8009 6
	KERB_CHECKSUM_MD5_HMAC           ChecksumType = -137 // [MS-KILE] 3.1.5.6
	KERB_CHECKSUM_HMAC_MD5           ChecksumType = -138 // RFC 4757 4
)
