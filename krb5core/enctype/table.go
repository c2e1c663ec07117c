package enctype

import (
	"crypto/aes"
	"crypto/des"
	"crypto/fips140"
	"fmt"
)

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
		derive: simplifiedDerive, newBlock: des.NewTripleDESCipher, newMAC: sha1Alg.newHMAC,
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
	p := derivedProfile(id, name, keySize, 12, sum, aliases)
	p.iterations, p.hash, p.newBlock, p.newMAC = 4096, sha1Alg, aes.NewCipher, sha1Alg.newHMAC
	p.derive, p.prf = simplifiedDerive, simplifiedPRF
	return p
}

// aesSHA2 returns a row for RFC 8009; MACs and their keys have macSize bytes.
func aesSHA2(id ID, name string, keySize, macSize int, hash *hashAlg, sum ChecksumType, aliases ...string) *profile {
	p := derivedProfile(id, name, keySize, macSize, sum, aliases)
	p.iterations, p.hash, p.newBlock, p.newMAC = 32768, hash, aes.NewCipher, hash.newHMAC
	p.derive, p.prf = aesSHA2Derive, aesSHA2PRF
	p.macKeySize, p.approved, p.namedSalt, p.encryptThenMAC = macSize, true, true, true
	return p
}

// camelliaCMAC returns a row for RFC 6803.
func camelliaCMAC(id ID, name string, keySize int, sum ChecksumType, aliases ...string) *profile {
	p := derivedProfile(id, name, keySize, camelliaBlockSize, sum, aliases)
	p.iterations, p.hash, p.newBlock, p.newMAC = 32768, sha1Alg, newCamelliaBlock, newCMAC
	p.derive, p.prf, p.namedSalt = camelliaDerive, camelliaPRF, true
	return p
}

// derivedProfile returns what the rows of the ciphers with blocks of 16 bytes have in common.
func derivedProfile(id ID, name string, keySize, macSize int, sum ChecksumType, aliases []string) *profile {
	return &profile{
		id: id, name: name, aliases: aliases, keySize: keySize, seedSize: keySize, checksumType: sum,
		confounder: aes.BlockSize, header: aes.BlockSize, block: 1, trailer: macSize,
		stringToKey: pbkdf2StringToKey, randomToKey: identity, newMode: newDerivedMode, checksum: derivedChecksum,
		macSize: macSize, macKeySize: keySize,
	}
}

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
