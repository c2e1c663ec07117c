package messages

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
)

// PVNO is the protocol version number of Kerberos V5, in every message and ticket (RFC 4120 5.2 and 5.3).
const PVNO = 5

// ErrMalformed is wrapped by the error of every ParseX.
var ErrMalformed = errors.New("malformed Kerberos message")

// MsgType is the type of a message, which is its application tag as well (RFC 4120 7.5.7 and 5.10).
type MsgType int32

// The message types of RFC 4120 7.5.7.
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

// String is the registered name, or the number of a type that has none.
func (t MsgType) String() string {
	if name, ok := msgTypeNames[t]; ok {
		return name
	}
	return strconv.Itoa(int(t))
}

// TypeOf tells what kind of message b begins as, by its tag alone, or 0 for none that is known. It promises nothing about
// the rest.
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
func parse[T any](b []byte, name string, read func(*der.String, *T) bool) (*T, error) {
	s := der.String(b)
	x := new(T)
	if !read(&s, x) {
		return nil, fmt.Errorf("%w: %d octets are no %s", ErrMalformed, len(b), name)
	}
	if !s.Empty() {
		return nil, fmt.Errorf("%w: %d octets after the %s", ErrMalformed, len(s), name)
	}
	return x, nil
}

// readApplication enters [APPLICATION n] SEQUENCE, the shape of every message.
func readApplication(s *der.String, n uint8, seq *der.String) bool {
	var inner der.String
	return der.ReadElement(s, der.Application(n), &inner) && der.ReadSequence(&inner, seq) && inner.Empty()
}

// appendApplication writes [APPLICATION n] SEQUENCE.
func appendApplication(dst []byte, n uint8, content func([]byte) []byte) []byte {
	return der.Append(dst, der.Application(n), func(dst []byte) []byte { return der.AppendSequence(dst, content) })
}

// readConst reads an integer that must have one value, such as pvno and msg-type.
func readConst(s *der.String, n uint8, want int32) bool {
	var v int32
	return der.ReadField(s, n, der.ReadInt32, &v) && v == want
}

// parsePadded reads a decrypted plaintext. What follows the value is ignored: it is under the same integrity check, and the
// block ciphers of old leave padding there, since decryption does not recover the length (RFC 3961 3, decrypt function).
func parsePadded[T any](b []byte, name string, read func(*der.String, *T) bool) (*T, error) {
	s := der.String(b)
	x := new(T)
	if !read(&s, x) {
		return nil, fmt.Errorf("%w: %d decrypted octets are no %s", ErrMalformed, len(b), name)
	}
	return x, nil
}
