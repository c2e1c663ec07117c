package gmsa

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf16"
)

// Password is the value of msDS-ManagedPassword.
type Password struct {
	// Current is the password that the account has now, and Previous the one that it had before, as
	// UTF-16LE; Previous is nil if the domain controller knows none.
	Current, Previous []byte
	// Query is after what time the password is to be read again, Unchanged for how long it will not
	// change.
	Query, Unchanged time.Duration
}

// Format keeps the password out of logs.
func (p *Password) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "managed password, to be read again after %s", p.Query)
}

// headerSize is the size of the fixed part of a MSDS-MANAGEDPASSWORD_BLOB.
const headerSize = 16

// passwordSize is the size of a password that a domain controller makes. It is random: it may have
// a zero in it, though it is terminated by one.
const passwordSize = 256

// ParsePassword reads a MSDS-MANAGEDPASSWORD_BLOB ([MS-ADTS] 2.2.19), whose numbers are little endian:
//
//	Version                         2 bytes: 1
//	Reserved                        2 bytes
//	Length                          4 bytes: of the whole
//	CurrentPasswordOffset           2 bytes
//	PreviousPasswordOffset          2 bytes: 0 if there is none
//	QueryPasswordIntervalOffset     2 bytes
//	UnchangedPasswordIntervalOffset 2 bytes
//	passwords                       UTF-16LE, each terminated by a zero
//	intervals                       8 bytes each, in 100 nanoseconds
//
// Domain controllers do not align the intervals, although the specification says so. The result does
// not alias b.
func ParsePassword(b []byte) (*Password, error) {
	if len(b) < headerSize {
		return nil, fmt.Errorf("%d bytes are too few for a managed password", len(b))
	}
	if version := binary.LittleEndian.Uint16(b); version != 1 {
		return nil, fmt.Errorf("managed password of version %d, and only 1 is known", version)
	}
	length := binary.LittleEndian.Uint32(b[4:])
	if length < headerSize || uint64(length) > uint64(len(b)) {
		return nil, fmt.Errorf("managed password says that it has %d bytes, and has %d", length, len(b))
	}
	b = b[:length]
	var at [4]int // in the order of the header
	for i := range at {
		at[i] = int(binary.LittleEndian.Uint16(b[8+2*i:]))
	}
	p := new(Password)
	var err error
	if p.Current, err = readText(b, at[0], at); err != nil {
		return nil, fmt.Errorf("current managed password: %w", err)
	}
	if at[1] != 0 {
		if p.Previous, err = readText(b, at[1], at); err != nil {
			return nil, fmt.Errorf("previous managed password: %w", err)
		}
	}
	if p.Query, err = readInterval(b, at[2]); err == nil {
		p.Unchanged, err = readInterval(b, at[3])
	}
	if err != nil {
		return nil, fmt.Errorf("interval of the managed password: %w", err)
	}
	return p, nil
}

var errOffset = errors.New("its offset is not inside")

// readText reads the text at an offset. It ends before the next of the offsets.
func readText(b []byte, at int, offsets [4]int) ([]byte, error) {
	end := len(b)
	for _, other := range offsets {
		if other > at && other < end {
			end = other
		}
	}
	if at < headerSize || at >= end {
		return nil, errOffset
	}
	text := b[at:end]
	if len(text) >= passwordSize+2 && text[passwordSize] == 0 && text[passwordSize+1] == 0 {
		return bytes.Clone(text[:passwordSize]), nil
	}
	for i := 0; i+1 < len(text); i += 2 {
		if text[i] == 0 && text[i+1] == 0 {
			if i == 0 {
				return nil, errors.New("it is empty")
			}
			return bytes.Clone(text[:i]), nil
		}
	}
	return nil, errors.New("it has no end")
}

// maxInterval is what longer intervals are taken for. A password changes after 30 days, usually.
const maxInterval = 10 * 365 * 24 * time.Hour

func readInterval(b []byte, at int) (time.Duration, error) {
	if at < headerSize || at > len(b)-8 {
		return 0, errOffset
	}
	ticks := binary.LittleEndian.Uint64(b[at:])
	if ticks > math.MaxInt64 || ticks > uint64(maxInterval/100) {
		return maxInterval, nil
	}
	return time.Duration(ticks) * 100, nil
}

// Text turns a password in UTF-16LE into the UTF-8 that string-to-key takes (RFC 3962, Section 4). The
// password is random, so that it has surrogates without a partner: Windows, which cannot represent
// them either, takes U+FFFD for each.
func Text(password []byte) string {
	units := make([]uint16, len(password)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(password[2*i:])
	}
	return string(utf16.Decode(units))
}
