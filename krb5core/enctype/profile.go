package enctype

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"fmt"
)

// profile is all that this package knows of an encryption type: a row of table.
// What the types of one family share are functions that take the row.
type profile struct {
	id      ID
	name    string
	aliases []string // MIT's
	weak    bool
	// approved: made of what FIPS 140-3 approves, see (ID).Approved.
	approved bool

	keySize  int // octets of a protocol key
	seedSize int // octets that randomToKey takes

	// iterations is the default, and lowest accepted, number of PBKDF2
	// iterations, 0 if string-to-key takes no parameters.
	iterations int

	checksumType ChecksumType // the mandatory one

	// Layout of a ciphertext: the confounder lies within the header, after it
	// the plaintext, padding up to a multiple of block (1 = none), trailer.
	confounder, confounderAt int
	header, block, trailer   int

	stringToKey func(p *profile, password, salt string, iterations int) ([]byte, error)
	randomToKey func(seed []byte) []byte
	prf         func(p *profile, key, data []byte) []byte
	newMode     func(s *Sealer, key []byte) mode
	checksum    func(p *profile, key []byte, usage Usage, data []byte) []byte

	// The rest is for types with derived keys only (derived.go).

	// derive makes size octets of key and constant: DK, KDF-HMAC-SHA2 or
	// KDF-FEEDBACK-CMAC.
	derive         func(p *profile, key, constant []byte, size int) []byte
	newBlock       func(key []byte) (cipher.Block, error)
	newMAC         func(key []byte) mac
	macSize        int  // octets of a MAC as sent
	macKeySize     int  // octets of Ki and Kc
	encryptThenMAC bool // MAC over the ciphertext rather than the plaintext
	hash           *hashAlg
}

// table holds a row per encryption type.
var table = []*profile{
	aesSHA1(AES256_CTS_HMAC_SHA1_96, "aes256-cts-hmac-sha1-96", 32,
		CKSUMTYPE_HMAC_SHA1_96_AES256, "aes256-cts", "aes256-sha1"),
	aesSHA1(AES128_CTS_HMAC_SHA1_96, "aes128-cts-hmac-sha1-96", 16,
		CKSUMTYPE_HMAC_SHA1_96_AES128, "aes128-cts", "aes128-sha1"),
	aesSHA2(AES256_CTS_HMAC_SHA384_192, "aes256-cts-hmac-sha384-192", 32, 24, sha384Alg,
		CKSUMTYPE_HMAC_SHA384_192_AES256, "aes256-sha2"),
	aesSHA2(AES128_CTS_HMAC_SHA256_128, "aes128-cts-hmac-sha256-128", 16, 16, sha256Alg,
		CKSUMTYPE_HMAC_SHA256_128_AES128, "aes128-sha2"),
	camelliaCMAC(CAMELLIA256_CTS_CMAC, "camellia256-cts-cmac", 32,
		CKSUMTYPE_CMAC_CAMELLIA256, "camellia256-cts"),
	camelliaCMAC(CAMELLIA128_CTS_CMAC, "camellia128-cts-cmac", 16,
		CKSUMTYPE_CMAC_CAMELLIA128, "camellia128-cts"),
	{
		id: RC4_HMAC, name: "rc4-hmac", weak: true,
		aliases: []string{"arcfour-hmac", "arcfour-hmac-md5"},
		keySize: 16, seedSize: 16,
		checksumType: KERB_CHECKSUM_HMAC_MD5,
		confounder:   8, confounderAt: 16, header: 24, block: 1,
		stringToKey: rc4StringToKey, randomToKey: identity, prf: rc4PRF,
		newMode: newRC4Mode, checksum: rc4Checksum,
	},
	{
		id: DES3_CBC_SHA1, name: "des3-cbc-sha1", weak: true,
		aliases: []string{"des3-cbc-sha1-kd", "des3-hmac-sha1"},
		keySize: 24, seedSize: 21,
		checksumType: CKSUMTYPE_HMAC_SHA1_DES3_KD,
		confounder:   8, header: 8, block: 8, trailer: 20,
		stringToKey: des3StringToKey, randomToKey: des3RandomToKey, prf: simplifiedPRF,
		newMode: newDerivedMode, checksum: derivedChecksum,
		derive: simplifiedDerive, newBlock: newTripleDES, newMAC: sha1Alg.newHMAC,
		macSize: 20, macKeySize: 24,
	},
	{
		id: DES_CBC_MD5, name: "des-cbc-md5", weak: true,
		keySize: 8, seedSize: 7,
		checksumType: CKSUMTYPE_RSA_MD5_DES,
		confounder:   8, header: 8 + 16, block: 8,
		stringToKey: desStringToKey, randomToKey: desRandomToKey, prf: desPRF,
		newMode: newDESMD5Mode, checksum: desChecksum,
	},
	{
		id: DES_CBC_CRC, name: "des-cbc-crc", weak: true,
		keySize: 8, seedSize: 7,
		checksumType: CKSUMTYPE_RSA_MD5_DES,
		confounder:   8, header: 8 + 4, block: 8,
		stringToKey: desStringToKey, randomToKey: desRandomToKey, prf: desPRF,
		newMode: newDESCRCMode, checksum: desChecksum,
	},
}

// aesSHA1 returns a row for RFC 3962, the simplified profile of RFC 3961 with AES.
func aesSHA1(id ID, name string, keySize int, sum ChecksumType, aliases ...string) *profile {
	return &profile{
		id: id, name: name, aliases: aliases,
		keySize: keySize, seedSize: keySize, iterations: 4096,
		checksumType: sum,
		confounder:   aes.BlockSize, header: aes.BlockSize, block: 1, trailer: 12,
		stringToKey: aesSHA1StringToKey, randomToKey: identity, prf: simplifiedPRF,
		newMode: newDerivedMode, checksum: derivedChecksum,
		derive: simplifiedDerive, newBlock: aes.NewCipher, newMAC: sha1Alg.newHMAC,
		macSize: 12, macKeySize: keySize,
	}
}

// aesSHA2 returns a row for RFC 8009; MACs and their keys have macSize octets.
func aesSHA2(id ID, name string, keySize, macSize int, hash *hashAlg, sum ChecksumType, aliases ...string) *profile {
	return &profile{
		id: id, name: name, aliases: aliases, approved: true,
		keySize: keySize, seedSize: keySize, iterations: 32768,
		checksumType: sum,
		confounder:   aes.BlockSize, header: aes.BlockSize, block: 1, trailer: macSize,
		stringToKey: saltedStringToKey, randomToKey: identity, prf: aesSHA2PRF,
		newMode: newDerivedMode, checksum: derivedChecksum,
		derive: aesSHA2Derive, newBlock: aes.NewCipher, newMAC: hash.newHMAC,
		macSize: macSize, macKeySize: macSize, encryptThenMAC: true, hash: hash,
	}
}

// camelliaCMAC returns a row for RFC 6803.
func camelliaCMAC(id ID, name string, keySize int, sum ChecksumType, aliases ...string) *profile {
	return &profile{
		id: id, name: name, aliases: aliases,
		keySize: keySize, seedSize: keySize, iterations: 32768,
		checksumType: sum,
		confounder:   camelliaBlockSize, header: camelliaBlockSize, block: 1, trailer: camelliaBlockSize,
		stringToKey: saltedStringToKey, randomToKey: identity, prf: camelliaPRF,
		newMode: newDerivedMode, checksum: derivedChecksum,
		derive: camelliaDerive, newBlock: newCamelliaBlock, newMAC: newCMACMAC,
		macSize: camelliaBlockSize, macKeySize: keySize, hash: sha1Alg,
	}
}

// profiles finds the row of a type.
var profiles = func() map[ID]*profile {
	m := make(map[ID]*profile, len(table))
	for _, p := range table {
		m[p.id] = p
	}
	return m
}()

// profile returns the row of a type that may be used now.
func (id ID) profile() (*profile, error) {
	p := profiles[id]
	if p == nil {
		return nil, fmt.Errorf("encryption type %d: %w", int32(id), ErrUnsupported)
	}
	if !p.approved && fips140.Enforced() {
		return nil, fmt.Errorf("encryption type %s: %w: use %s or %s", p.name, ErrNotApproved,
			AES256_CTS_HMAC_SHA384_192, AES128_CTS_HMAC_SHA256_128)
	}
	return p, nil
}

// identity is random-to-key of all types but DES.
func identity(seed []byte) []byte { return seed }
