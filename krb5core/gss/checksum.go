package gss

import (
	"encoding/binary"
	"errors"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// CKSUMTYPE_GSS is the type of the checksum in an initiator's authenticator (RFC 4121, Section
// 4.1.1). It is no sum; it has the context's parameters, protected by the encryption of the
// authenticator.
const CKSUMTYPE_GSS enctype.ChecksumType = 0x8003

const (
	bndOffset    = 4 // of Bnd in the checksum
	maxDelegated = 1<<16 - 1
)

// Checksum is the value of a checksum of type 0x8003 (RFC 4121, Section 4.1.1.1), all numbers
// little endian:
//
//	bytes 0..3    Lgth: length of Bnd, 16
//	bytes 4..19   Bnd: MD5 of the channel bindings, or zero
//	bytes 20..23  Flags
//	bytes 24..25  DlgOpt: 1            } only with GSS_C_DELEG_FLAG
//	bytes 26..27  Dlgth: length of Deleg }
//	bytes 28..    Deleg: a KRB-CRED    }
//	then           Exts: extensions (RFC 6542), to be ignored if unknown
type Checksum struct {
	Bindings      ChannelBindings // zero if there are none
	Flags         Flags
	DelegatedCred []byte // a KRB-CRED; written if Flags has GSS_C_DELEG_FLAG
}

// Append appends the value of the checksum. DelegatedCred must not exceed 65535 bytes.
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

var errChecksum = errors.New("malformed GSS checksum")

// ParseChecksum reads the value of a checksum. Extensions are ignored. The result aliases b.
func ParseChecksum(b []byte) (Checksum, error) {
	const fixed, option, size = 24, 24, 26 // lengths and offsets
	var c Checksum
	if len(b) < fixed || binary.LittleEndian.Uint32(b) != uint32(len(c.Bindings)) {
		return c, errChecksum
	}
	copy(c.Bindings[:], b[bndOffset:])
	c.Flags = Flags(binary.LittleEndian.Uint32(b[bndOffset+len(c.Bindings):]))
	if c.Flags&GSS_C_DELEG_FLAG == 0 {
		return c, nil
	}
	const deleg = 28
	if len(b) < deleg || binary.LittleEndian.Uint16(b[option:]) != 1 || int(binary.LittleEndian.Uint16(b[size:])) > len(b)-deleg {
		return c, errChecksum
	}
	c.DelegatedCred = b[deleg:][:binary.LittleEndian.Uint16(b[size:])]
	return c, nil
}
