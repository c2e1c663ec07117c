package gss

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// CKSUMTYPE_GSS is the type of the checksum in an initiator's authenticator (RFC 4121 4.1.1). It is no sum of anything
// but carries the context's parameters, under the encryption of the authenticator.
const CKSUMTYPE_GSS enctype.ChecksumType = 0x8003

const (
	bndOffset    = 4  // of Bnd in the checksum
	fixedLen     = 24 // of the checksum without delegation
	maxDelegated = 1<<16 - 1
)

// Checksum is the value of a checksum of type 0x8003 (RFC 4121 4.1.1.1), all numbers little endian:
//
//	octets 0..3    Lgth: length of Bnd, 16
//	octets 4..19   Bnd: MD5 of the channel bindings, or zero
//	octets 20..23  Flags
//	octets 24..25  DlgOpt: 1            } only with GSS_C_DELEG_FLAG
//	octets 26..27  Dlgth: length of Deleg }
//	octets 28..    Deleg: a KRB-CRED    }
//	then           Exts: extensions (RFC 6542), to be ignored if unknown
type Checksum struct {
	Bindings      ChannelBindings // zero if there are none
	Flags         Flags
	DelegatedCred []byte // a KRB-CRED; written if Flags has GSS_C_DELEG_FLAG
}

// Append appends the value of the checksum. DelegatedCred must not exceed 65535 octets.
func (c *Checksum) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(c.Bindings)))
	dst = append(dst, c.Bindings[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(c.Flags))
	if c.Flags&GSS_C_DELEG_FLAG != 0 {
		dst = binary.LittleEndian.AppendUint16(dst, 1)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(len(c.DelegatedCred)))
		dst = append(dst, c.DelegatedCred...)
	}
	return dst
}

// ParseChecksum reads the value of a checksum of type 0x8003. DelegatedCred aliases b.
func ParseChecksum(b []byte) (*Checksum, error) {
	if len(b) < fixedLen || binary.LittleEndian.Uint32(b) != uint32(len(ChannelBindings{})) {
		return nil, fmt.Errorf("malformed GSS checksum: %d octets without Bnd and Flags", len(b))
	}
	c := &Checksum{Bindings: ChannelBindings(b[bndOffset:]), Flags: Flags(binary.LittleEndian.Uint32(b[20:]))}
	if c.Flags&GSS_C_DELEG_FLAG == 0 {
		return c, nil
	}
	rest := b[fixedLen:]
	if len(rest) < 4 || binary.LittleEndian.Uint16(rest) != 1 {
		return nil, errors.New("malformed GSS checksum: delegation is flagged, but DlgOpt is not 1")
	}
	n := int(binary.LittleEndian.Uint16(rest[2:]))
	if len(rest)-4 < n {
		return nil, fmt.Errorf("malformed GSS checksum: Deleg has %d octets of %d", len(rest)-4, n)
	}
	c.DelegatedCred = rest[4 : 4+n : 4+n]
	return c, nil
}
