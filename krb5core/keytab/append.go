package keytab

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Marshal returns the keytab as a file of version 2.
func (k *Keytab) Marshal() ([]byte, error) { return k.Append(nil) }

// Append appends the keytab as a file of version 2, as MIT writes it: with the
// key version number in eight bits and again in 32. It fails on what the format
// cannot hold: names and keys of more than 65535 octets, and times outside of
// 1970 to 2106.
func (k *Keytab) Append(dst []byte) ([]byte, error) {
	dst = append(dst, magic, version2)
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
	seconds, err := unix(e.Timestamp)
	switch {
	case err != nil:
		return nil, err
	case e.Key.IsZero():
		return nil, fmt.Errorf("no key")
	case len(components) == 0 || len(components) > math.MaxInt16:
		return nil, fmt.Errorf("%d name components", len(components))
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(components)))
	for _, s := range append([]string{e.Principal.Realm}, components...) {
		if dst, err = appendData(dst, []byte(s)); err != nil {
			return nil, err
		}
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(e.Principal.Name.NameType))
	dst = binary.BigEndian.AppendUint32(dst, seconds)
	dst = append(dst, byte(e.KVNO))
	dst = binary.BigEndian.AppendUint16(dst, uint16(e.Key.EType()))
	if dst, err = appendData(dst, e.Key.Bytes()); err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint32(dst, e.KVNO), nil
}

func appendData(dst, data []byte) ([]byte, error) {
	if len(data) > math.MaxUint16 {
		return nil, fmt.Errorf("%d octets where a keytab can hold 65535", len(data))
	}
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(data))), data...), nil
}

func unix(t time.Time) (uint32, error) {
	if t.IsZero() {
		return 0, nil
	}
	if s := t.Unix(); s >= 0 && s <= math.MaxUint32 {
		return uint32(s), nil
	}
	return 0, fmt.Errorf("the time %s is outside of 1970 to 2106", t.UTC().Format(time.DateOnly))
}
