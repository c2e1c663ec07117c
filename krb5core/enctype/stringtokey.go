package enctype

import (
	"crypto/pbkdf2"
	"encoding/binary"
	"fmt"
)

// MaxIterations is the highest number of iterations that [StringToKey] accepts: half a
// second of work. An attacker who can forge a reply of the KDC may ask for more; no KDC
// asks for more than 32768 unless its administrator set so. (MIT's client draws the line
// at 2^24, Heimdal's none.)
const MaxIterations = 1_000_000

// StringToKey derives a key from a password and the salt that the KDC named (RFC
// 3961, Section 3). Params are the s2kparams of ETYPE-INFO2, nil for the
// default: four bytes of iterations for the AES and Camellia types (RFC 3962,
// Section 4), nothing for the others. Fewer iterations than the type's default
// (4096 for RFC 3962, 32768 for RFC 8009 and RFC 6803) or more than
// [MaxIterations] are refused with ErrParams. Of RC4 keys the salt is no part.
func StringToKey(id ID, password, salt string, params []byte) (Key, error) {
	p, err := id.profile()
	if err != nil {
		return Key{}, err
	}
	iterations, err := p.checkedIterations(params)
	if err != nil {
		return Key{}, err
	}
	raw, err := p.stringToKey(p, password, salt, iterations)
	if err != nil {
		return Key{}, fmt.Errorf("making a key of type %s of a password: %w", p.name, err)
	}
	return newKey(id, raw), nil
}

// Iterations returns how many iterations StringToKey does with these parameters, 0 if
// the type knows none, and refuses them as it does.
func Iterations(id ID, params []byte) (int, error) {
	p, err := id.profile()
	if err != nil {
		return 0, err
	}
	return p.checkedIterations(params)
}

// checkedIterations returns what params ask for, if it is within bounds.
func (p *profile) checkedIterations(params []byte) (int, error) {
	switch {
	case len(params) == 0:
		return p.iterations, nil
	case p.iterations == 0:
		// Type 0 of RFC 3961, Section 6.2 is DES's normal algorithm, the others
		// AFS's.
		if (p.id == DES_CBC_CRC || p.id == DES_CBC_MD5) && len(params) == 1 && params[0] == 0 {
			return 0, nil
		}
		return 0, fmt.Errorf("%w: %s takes none, got %d bytes", ErrParams, p.name, len(params))
	case len(params) != 4:
		return 0, fmt.Errorf("%w: %s takes 4 bytes, got %d", ErrParams, p.name, len(params))
	}
	n := uint64(binary.BigEndian.Uint32(params))
	if n == 0 { // RFC 3962, Section 4
		n = 1 << 32
	}
	if n > MaxIterations {
		return 0, fmt.Errorf("%w: %d iterations are more than %d; if the KDC itself asks for them, "+
			"lower them there, or take a keytab, whose keys are made already", ErrParams, n, MaxIterations)
	}
	if int(n) < p.iterations {
		return 0, fmt.Errorf("%w: %d iterations are fewer than the default of %s, %d", ErrParams, n, p.name, p.iterations)
	}
	return int(n), nil
}

// pbkdf2StringToKey is string-to-key of RFC 3962, Section 4, and of RFC 8009, Section 4 and RFC 6803,
// Section 4, whose salt names the type.
func pbkdf2StringToKey(p *profile, password, salt string, iterations int) ([]byte, error) {
	if p.namedSalt {
		salt = p.name + "\x00" + salt
	}
	key, err := pbkdf2.Key(p.hash.new, password, []byte(salt), iterations, p.keySize)
	if err != nil {
		return nil, err
	}
	return p.derive(p, key, []byte("kerberos"), p.keySize), nil
}
