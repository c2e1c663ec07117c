package enctype

import "crypto/cipher"

// profile is all that this package knows of an encryption type: a row of table.
// What the types of one family share are functions that take the row.
type profile struct {
	id      ID
	name    string
	aliases []string // MIT's
	weak    bool
	// approved: made of what FIPS 140-3 approves, see (ID).Approved.
	approved bool

	keySize  int // bytes of a protocol key
	seedSize int // bytes that randomToKey takes

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

	// derive makes size bytes of key and constant: DK, KDF-HMAC-SHA2 or
	// KDF-FEEDBACK-CMAC.
	derive         func(p *profile, key, constant []byte, size int) []byte
	newBlock       func(key []byte) (cipher.Block, error)
	newMAC         func(key []byte) mac
	macSize        int  // bytes of a MAC as sent
	macKeySize     int  // bytes of Ki and Kc
	encryptThenMAC bool // MAC over the ciphertext rather than the plaintext
	hash           *hashAlg
	namedSalt      bool // string-to-key puts the name before the salt
}
