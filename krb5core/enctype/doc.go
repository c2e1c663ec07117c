// Package enctype is the cryptography of Kerberos: the encryption and checksum
// profiles of RFC 3961 and functions built on them.
//
//	type                         number  source    remarks
//	aes256-cts-hmac-sha1-96        18    RFC 3962
//	aes128-cts-hmac-sha1-96        17    RFC 3962
//	aes256-cts-hmac-sha384-192     20    RFC 8009  approved under FIPS 140
//	aes128-cts-hmac-sha256-128     19    RFC 8009  approved under FIPS 140
//	camellia256-cts-cmac           26    RFC 6803
//	camellia128-cts-cmac           25    RFC 6803
//	rc4-hmac                       23    RFC 4757  weak
//	des3-cbc-sha1                  16    RFC 3961  weak
//	des-cbc-md5, des-cbc-crc      3, 1   RFC 3961  weak
//
// A [Key] encrypts, decrypts, makes and verifies checksums, each for a [Usage].
// A [Sealer] does the same for one key and usage many times: everything derived
// is kept, and sealing allocates nothing. [StringToKey] derives keys from passwords;
// [PRF], [PRFPlus] and [CF2] derive keys from keys (RFC 6113).
//
// Each type is one row of the table in table.go, where reading should begin.
//
// # FIPS 140
//
// With GODEBUG=fips140=only, whatever uses a type other than those of RFC 8009
// fails with [ErrNotApproved]; nothing panics and nothing switches enforcement
// off. What that mode asks is met as follows: RFC 8009 uses HMAC keys of 128 and
// more bits, and its PBKDF2 salt, prefixed with the name of the type, is always
// longer than 128 bits. While the FIPS module is enabled at all, CBC and HMAC are
// the module's own, at the price of allocations; otherwise they are composed here
// from the block cipher and saved hash states.
//
// # What is left out
//
// Cipher states that chain messages (no user of Kerberos here has them), des-cbc-md4,
// rc4-hmac-exp, and AFS salts. Camellia, DES and RC4 are not constant time.
package enctype
