package keytab

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/internal/filefmt"
)

// Marshal returns the keytab as a file of version 2, as MIT writes it: with the
// key version number in eight bits and again in 32. It fails on what the format
// cannot hold: names and keys of more than 65535 bytes, and times outside of
// 1970 to 2106.
func (k *Keytab) Marshal() ([]byte, error) {
	dst := []byte{filefmt.Magic, version2}
	for _, e := range k.Entries {
		start := len(dst)
		dst = append(dst, 0, 0, 0, 0) // the length, once it is known
		var err error
		if dst, err = e.append(dst); err != nil {
			return nil, fmt.Errorf("keytab entry of %s: %w", e.Principal, err)
		}
		binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	}
	return dst, nil
}

func (e Entry) append(dst []byte) ([]byte, error) {
	components := e.Principal.Name.NameString
	switch {
	case e.Key.IsZero():
		return nil, fmt.Errorf("no key")
	case len(components) == 0 || len(components) > math.MaxInt16:
		return nil, fmt.Errorf("%d name components", len(components))
	}
	var err error
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(components)))
	for _, s := range append([]string{e.Principal.Realm}, components...) {
		if dst, err = filefmt.AppendData16(dst, []byte(s)); err != nil {
			return nil, err
		}
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(e.Principal.Name.NameType))
	if dst, err = filefmt.AppendTime(dst, e.Timestamp); err != nil {
		return nil, err
	}
	dst = append(dst, byte(e.KVNO))
	dst = binary.BigEndian.AppendUint16(dst, uint16(e.Key.EType()))
	if dst, err = filefmt.AppendData16(dst, e.Key.Bytes()); err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint32(dst, e.KVNO), nil
}
