package messages

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// PVNO is the protocol version number of Kerberos V5, in every message and ticket (RFC 4120,
// Sections 5.2 and 5.3).
const PVNO = 5

// ErrMalformed is wrapped by the error of every ParseX.
var ErrMalformed = errors.New("malformed Kerberos message")

// MsgType is the type of a message, which is its application tag as well (RFC 4120, Sections 7.5.7
// and 5.10).
type MsgType int32

// The message types of RFC 4120, Section 7.5.7.
const (
	KRB_AS_REQ  MsgType = 10
	KRB_AS_REP  MsgType = 11
	KRB_TGS_REQ MsgType = 12
	KRB_TGS_REP MsgType = 13
	KRB_AP_REQ  MsgType = 14
	KRB_AP_REP  MsgType = 15
	KRB_SAFE    MsgType = 20
	KRB_PRIV    MsgType = 21
	KRB_CRED    MsgType = 22
	KRB_ERROR   MsgType = 30
)

var msgTypeNames = map[MsgType]string{
	KRB_AS_REQ: "KRB_AS_REQ", KRB_AS_REP: "KRB_AS_REP", KRB_TGS_REQ: "KRB_TGS_REQ", KRB_TGS_REP: "KRB_TGS_REP",
	KRB_AP_REQ: "KRB_AP_REQ", KRB_AP_REP: "KRB_AP_REP", KRB_SAFE: "KRB_SAFE", KRB_PRIV: "KRB_PRIV",
	KRB_CRED: "KRB_CRED", KRB_ERROR: "KRB_ERROR",
}

func (t MsgType) String() string {
	if name, ok := msgTypeNames[t]; ok {
		return name
	}
	return strconv.Itoa(int(t))
}

// TypeOf returns the type of the message that b begins as, by its tag alone, or 0 if unknown. It
// promises nothing about the rest.
func TypeOf(b []byte) MsgType {
	if len(b) == 0 || b[0]&^0x1f != byte(der.Application(0)) {
		return 0
	}
	t := MsgType(b[0] & 0x1f)
	if _, ok := msgTypeNames[t]; !ok {
		return 0
	}
	return t
}

// parse reads b, all of it, as one value.
func parse[T any](b []byte, name string, code func(*der.Codec, *T)) (*T, error) {
	return whole(b, name, der.ReadCoded, code)
}

// parseBER is parse for a message that clients and acceptors exchange: some encoders, such as those
// of Windows, write lengths with more bytes than needed.
func parseBER[T any](b []byte, name string, code func(*der.Codec, *T)) (*T, error) {
	return whole(b, name, der.ReadCodedBER, code)
}

// coded is der.ReadCoded or der.ReadCodedBER.
type coded[T any] func(*der.String, func(*der.Codec, *T), *T) bool

func whole[T any](b []byte, name string, by coded[T], code func(*der.Codec, *T)) (*T, error) {
	x, rest, err := read(b, "", name, by, code)
	if err == nil && !rest.Empty() {
		return nil, fmt.Errorf("%w: %d bytes after the %s", ErrMalformed, len(rest), name)
	}
	return x, err
}

func read[T any](b []byte, kind, name string, by coded[T], code func(*der.Codec, *T)) (*T, der.String, error) {
	rest, x := der.String(b), new(T)
	if !by(&rest, code, x) {
		return nil, nil, fmt.Errorf("%w: %d %sbytes are no %s", ErrMalformed, len(b), kind, name)
	}
	return x, rest, nil
}

// parseValue is parse for a type that is passed by value.
func parseValue[T any](b []byte, name string, code func(*der.Codec, *T)) (value T, err error) {
	v, err := parse(b, name, code)
	if err != nil {
		return value, err
	}
	return *v, nil
}

// parsePadded reads a decrypted plaintext. What follows the value is ignored: it is under the same
// integrity check, and the block ciphers of old leave padding there, since decryption does not
// recover the length (RFC 3961, Section 3, decrypt function).
func parsePadded[T any](b []byte, name string, code func(*der.Codec, *T)) (*T, error) {
	x, _, err := read(b, "decrypted ", name, der.ReadCoded, code)
	return x, err
}

// codeTyped codes a SEQUENCE of a type, whose field has the number n, and of bytes of that type.
func codeTyped[T ~int32](c *der.Codec, n uint8, t *T, value *[]byte) {
	c.Sequence(func() {
		der.Field(c, n, der.Int32, t)
		der.Field(c, n+1, der.Octets, value)
	})
}
