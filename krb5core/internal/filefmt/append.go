package filefmt

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// AppendTime appends seconds since 1970 as 32 bits, 0 for the zero time. It
// fails outside of 1970 to 2106.
func AppendTime(dst []byte, t time.Time) ([]byte, error) {
	seconds := t.Unix()
	switch {
	case t.IsZero():
		seconds = 0
	case seconds < 0 || seconds > math.MaxUint32:
		return nil, fmt.Errorf("the time %s is outside of 1970 to 2106", t.UTC().Format(time.DateOnly))
	}
	return binary.BigEndian.AppendUint32(dst, uint32(seconds)), nil
}

// AppendData16 appends a length of 16 bits and data, which must not be longer
// than 65535 bytes.
func AppendData16(dst, data []byte) ([]byte, error) {
	if len(data) > math.MaxUint16 {
		return nil, fmt.Errorf("%d bytes where the format can hold 65535", len(data))
	}
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(data))), data...), nil
}

// AppendData32 appends a length of 32 bits and data.
func AppendData32(dst, data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(data))), data...)
}
