package enctype

import (
	"fmt"
	"slices"
	"strings"
)

// ID is an encryption type as registered with IANA (Kerberos Encryption Type
// Numbers, RFC 3961, Section 8). Negative numbers are for private use.
type ID int32

// The encryption types that this package implements.
const (
	DES_CBC_CRC                ID = 1  // RFC 3961, Section 6.2.3, weak
	DES_CBC_MD5                ID = 3  // RFC 3961, Section 6.2.1, weak
	DES3_CBC_SHA1              ID = 16 // RFC 3961, Section 6.3, registered as des3-cbc-sha1-kd, weak
	AES128_CTS_HMAC_SHA1_96    ID = 17 // RFC 3962
	AES256_CTS_HMAC_SHA1_96    ID = 18 // RFC 3962
	AES128_CTS_HMAC_SHA256_128 ID = 19 // RFC 8009
	AES256_CTS_HMAC_SHA384_192 ID = 20 // RFC 8009
	RC4_HMAC                   ID = 23 // RFC 4757, weak
	CAMELLIA128_CTS_CMAC       ID = 25 // RFC 6803
	CAMELLIA256_CTS_CMAC       ID = 26 // RFC 6803
)

// String returns the name by which the type is configured, the IANA name with
// one exception: type 16 is des3-cbc-sha1, as everybody calls it. An unknown
// type is "enctype N".
func (id ID) String() string {
	if p := profiles[id]; p != nil {
		return p.name
	}
	return fmt.Sprintf("enctype %d", int32(id))
}

// Parse returns the type called name: an IANA name or one of MIT's aliases, in
// any case. Names of families ("aes", "rc4") are not accepted, and neither are
// numbers.
func Parse(name string) (ID, error) {
	lower := strings.ToLower(name)
	for _, p := range table {
		if lower == p.name || slices.Contains(p.aliases, lower) {
			return p.id, nil
		}
	}
	return 0, fmt.Errorf("unknown encryption type %q: use a name such as %s", name, AES256_CTS_HMAC_SHA1_96)
}

// Supported reports whether this package implements the type.
func (id ID) Supported() bool { return profiles[id] != nil }

// Weak reports whether the type is broken or withdrawn (RFC 6649, RFC 8429).
// A type that is not supported is weak too: nothing is known in its favour.
func (id ID) Weak() bool {
	p := profiles[id]
	return p == nil || p.weak
}

// Approved reports whether the type is made of algorithms that FIPS 140-3
// approves and Go lets pass with GODEBUG=fips140=only: those of RFC 8009.
func (id ID) Approved() bool {
	p := profiles[id]
	return p != nil && p.approved
}

// KeySize returns the length of a key in bytes, 0 if the type is not
// supported.
func (id ID) KeySize() int {
	if p := profiles[id]; p != nil {
		return p.keySize
	}
	return 0
}

// SeedSize returns how many bytes KeyFromSeed takes, 0 if the type is not supported.
func (id ID) SeedSize() int {
	if p := profiles[id]; p != nil {
		return p.seedSize
	}
	return 0
}

// Check returns nil if keys of the type can be used: ErrUnsupported if it is
// not implemented, ErrNotApproved if FIPS 140 is enforced and forbids it.
func (id ID) Check() error {
	_, err := id.profile()
	return err
}

// Strong returns the types that are offered unless others are configured, best
// liked by KDCs first. While FIPS 140 is enforced it leaves out those that are
// not approved.
func Strong() []ID {
	var ids []ID
	for _, id := range []ID{
		AES256_CTS_HMAC_SHA1_96, AES128_CTS_HMAC_SHA1_96,
		AES256_CTS_HMAC_SHA384_192, AES128_CTS_HMAC_SHA256_128,
		CAMELLIA256_CTS_CMAC, CAMELLIA128_CTS_CMAC,
	} {
		if id.Check() == nil {
			ids = append(ids, id)
		}
	}
	return ids
}
