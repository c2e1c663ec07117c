package enctype

import (
	"fmt"
	"slices"
)

// Sealer encrypts and decrypts with one key for one usage, its derived keys and
// their schedules made once. It is safe for concurrent use. The strong types seal
// without allocating, unless the FIPS module is enabled.
type Sealer struct {
	p     *profile
	usage Usage
	mode  mode

	derived derivedMode // what mode is for most types: here, to be one object with the Sealer
}

// mode is a Sealer's cryptography. Both methods work in place on a whole
// ciphertext laid out as the profile says.
type mode interface {
	// seal finds confounder, plaintext and zero padding in their places, zeros
	// where its checksum goes.
	seal(buf []byte)
	// open leaves the plaintext in its place. The length of buf has been checked.
	open(buf []byte) error
}

// Sealer returns the key made ready for usage.
func (k Key) Sealer(usage Usage) (*Sealer, error) {
	p, err := k.profile()
	if err != nil {
		return nil, err
	}
	s := &Sealer{p: p, usage: usage}
	s.mode = p.newMode(s, k.Bytes())
	return s, nil
}

// ConfounderSize returns how many random bytes Seal takes.
func (s *Sealer) ConfounderSize() int { return s.p.confounder }

// Overhead returns how many bytes a ciphertext has before and after those that
// correspond to a plaintext of n bytes.
func (s *Sealer) Overhead(n int) (header, trailer int) {
	padding := 0
	if over := (s.p.header + n) % s.p.block; over != 0 {
		padding = s.p.block - over
	}
	return s.p.header, padding + s.p.trailer
}

// Seal appends the ciphertext of plaintext to dst and returns the extended
// slice. The confounder must have ConfounderSize bytes, random and never used
// before, or Seal panics. The plaintext may lie in dst's spare capacity if that
// is where it belongs, Overhead's header after the end of dst; otherwise they
// must not overlap.
func (s *Sealer) Seal(dst, confounder, plaintext []byte) []byte {
	if len(confounder) != s.p.confounder {
		panic("enctype: a confounder of the wrong size")
	}
	header, trailer := s.Overhead(len(plaintext))
	start, size := len(dst), header+len(plaintext)+trailer
	dst = slices.Grow(dst, size)[:start+size]
	buf := dst[start:]
	copy(buf[header:], plaintext)
	clear(buf[:header])
	clear(buf[size-trailer:])
	copy(buf[s.p.confounderAt:], confounder)
	s.mode.seal(buf)
	return dst
}

// Open appends the plaintext of ciphertext to dst and returns the extended slice,
// or ErrIntegrity, having cleared what it had written. Dst may be ciphertext[:0];
// otherwise they must not overlap. As with Key.Decrypt, padding of the DES types
// remains.
func (s *Sealer) Open(dst, ciphertext []byte) ([]byte, error) {
	body := len(ciphertext) - s.p.trailer
	if body < s.p.header || body%s.p.block != 0 {
		return nil, s.integrityError()
	}
	start := len(dst)
	dst = slices.Grow(dst, len(ciphertext))[:start+len(ciphertext)]
	buf := dst[start:]
	copy(buf, ciphertext)
	if err := s.mode.open(buf); err != nil {
		clear(buf)
		return nil, s.integrityError()
	}
	n := copy(buf, buf[s.p.header:body])
	return dst[:start+n], nil
}

func (s *Sealer) integrityError() error {
	return fmt.Errorf("decrypting %s with key usage %d: %w", s.p.name, s.usage, ErrIntegrity)
}

// String names type and usage; the keys are behind an interface that fmt prints
// by address only.
func (s *Sealer) String() string {
	return fmt.Sprintf("sealer of type %s, key usage %d", s.p.name, s.usage)
}

// Format prints String whatever the verb and flags.
func (s *Sealer) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// MarshalText is String, for encoders.
func (s *Sealer) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
