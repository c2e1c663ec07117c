package kpasswd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The frame of requests and replies (RFC 3244, Section 2), without the four bytes of length that
// precede it on TCP:
//
//	message length          2 bytes, of all of it
//	protocol version        2 bytes
//	AP-REQ or AP-REP length 2 bytes; 0 in a reply: a KRB-ERROR follows
//	AP-REQ or AP-REP
//	KRB-PRIV or KRB-ERROR
const headerSize = 6

// The protocol versions. A server that knows no other sends the second in a reply to the first.
const (
	versionChange = 1
	versionSet    = 0xff80
)

// ErrMalformed is wrapped by the errors of replies that are not framed as RFC 3244 says.
var ErrMalformed = errors.New("malformed reply to a change of the password")

// appendFrame returns a request.
func appendFrame(dst, apReq, krbPriv []byte) ([]byte, error) {
	size := headerSize + len(apReq) + len(krbPriv)
	if size > math.MaxUint16 {
		return nil, fmt.Errorf("a request of %d bytes does not fit the frame of RFC 3244: the ticket is too large", size)
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(size))
	dst = binary.BigEndian.AppendUint16(dst, versionChange)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(apReq)))
	return append(append(dst, apReq...), krbPriv...), nil
}

// parseFrame takes a reply apart; second is a KRB-PRIV, or a KRB-ERROR if there is no apRep.
func parseFrame(b []byte) (apRep, second []byte, err error) {
	if len(b) < headerSize {
		return nil, nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	size, version, apSize := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), int(binary.BigEndian.Uint16(b[4:]))
	switch {
	case int(size) != len(b):
		return nil, nil, fmt.Errorf("%w: it has %d bytes and says %d", ErrMalformed, len(b), size)
	case version != versionChange && version != versionSet:
		return nil, nil, fmt.Errorf("%w: version %#04x", ErrMalformed, version)
	case apSize >= len(b)-headerSize:
		return nil, nil, fmt.Errorf("%w: an AP-REP of %d bytes in %d", ErrMalformed, apSize, len(b))
	}
	return b[headerSize : headerSize+apSize], b[headerSize+apSize:], nil
}
