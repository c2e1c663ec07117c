package kpasswd

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Code is the result of a change (RFC 3244, Section 2).
type Code uint16

// The results of RFC 3244, Section 2.
const (
	KRB5_KPASSWD_SUCCESS             Code = 0
	KRB5_KPASSWD_MALFORMED           Code = 1
	KRB5_KPASSWD_HARDERROR           Code = 2
	KRB5_KPASSWD_AUTHERROR           Code = 3
	KRB5_KPASSWD_SOFTERROR           Code = 4 // usually: the password policy
	KRB5_KPASSWD_ACCESSDENIED        Code = 5
	KRB5_KPASSWD_BAD_VERSION         Code = 6
	KRB5_KPASSWD_INITIAL_FLAG_NEEDED Code = 7
)

var meanings = map[Code]string{ //nolint:gosec // words
	KRB5_KPASSWD_SUCCESS: "success", KRB5_KPASSWD_MALFORMED: "malformed request", KRB5_KPASSWD_HARDERROR: "the server failed",
	KRB5_KPASSWD_AUTHERROR: "authentication failed", KRB5_KPASSWD_SOFTERROR: "the new password was rejected",
	KRB5_KPASSWD_ACCESSDENIED: "not permitted", KRB5_KPASSWD_BAD_VERSION: "unknown protocol version",
	KRB5_KPASSWD_INITIAL_FLAG_NEEDED: "the ticket must come from a login",
}

func (c Code) String() string {
	if text, ok := meanings[c]; ok {
		return fmt.Sprintf("result %d, %s", uint16(c), text)
	}
	return fmt.Sprintf("result %d", uint16(c))
}

// RefusedError is the authenticated refusal of a change: the request that it answers has changed
// nothing.
type RefusedError struct {
	Code Code
	// Text is the server's, made printable and cut after 500 bytes; empty if there is none.
	Text string
	// Policy is the domain's policy, which Windows sends in place of a text; nil for none.
	Policy *Policy
}

func (e *RefusedError) Error() string {
	s := "the password was not changed: " + e.Code.String()
	switch {
	case e.Policy != nil:
		s += ": the domain's policy asks for " + e.Policy.String()
	case e.Text != "":
		s += fmt.Sprintf(": the server says %q", e.Text)
	}
	return s
}

// maxText bounds the text of a RefusedError, in bytes.
const maxText = 500

// parseResult reads the result of a change, the content of the KRB-PRIV or the e-data of a
// KRB-ERROR: a code of two bytes, and a text. It returns nil for success.
func parseResult(b []byte) error {
	if len(b) < 2 {
		return fmt.Errorf("%w: a result of %d bytes", ErrMalformed, len(b))
	}
	e := &RefusedError{Code: Code(binary.BigEndian.Uint16(b))}
	if e.Code == KRB5_KPASSWD_SUCCESS {
		return nil
	}
	if policy, ok := parsePolicy(b[2:]); ok {
		e.Policy = &policy
	} else {
		e.Text = printable(b[2:])
	}
	return e
}

// printable returns a text of the network in one line.
func printable(b []byte) string {
	b = b[:min(len(b), 4*maxText)]
	text := strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError, r == 0:
			return -1
		case !unicode.IsPrint(r):
			return ' '
		}
		return r
	}, string(b))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "..."
}

// Policy is the password policy of a domain as Windows describes it.
type Policy struct {
	MinLength uint32 // in characters
	History   uint32 // passwords that must not be used again
	Complex   bool   // characters of several kinds, and not the account's name
	MinDays   uint64 // before a password may be changed again
	MaxDays   uint64 // after which it must be changed; 0 for never
}

// policySize is the length of a policy: two zero bytes, three numbers of four bytes (length,
// history, properties, of which bit 0 is complexity) and two of eight (greatest and least age, in
// units of 100 ns), all big-endian.
const policySize = 2 + 3*4 + 2*8

// ticksPerDay are the units of 100 ns in a day.
const ticksPerDay = 24 * 60 * 60 * 10_000_000

// maxDays is longer than any age that is meant: a domain without a greatest age sends a huge one.
const maxDays = 100_000

func parsePolicy(b []byte) (Policy, bool) {
	if len(b) != policySize || b[0] != 0 || b[1] != 0 {
		return Policy{}, false
	}
	p := Policy{
		MinLength: binary.BigEndian.Uint32(b[2:]),
		History:   binary.BigEndian.Uint32(b[6:]),
		Complex:   binary.BigEndian.Uint32(b[10:])&1 != 0,
		MaxDays:   binary.BigEndian.Uint64(b[14:]) / ticksPerDay,
		MinDays:   binary.BigEndian.Uint64(b[22:]) / ticksPerDay,
	}
	if p.MaxDays > maxDays {
		p.MaxDays = 0
	}
	if p.MinDays > maxDays {
		p.MinDays = 0
	}
	return p, true
}

func (p Policy) String() string {
	parts := []string{fmt.Sprintf("at least %d characters", p.MinLength)}
	if p.Complex {
		parts = append(parts, "characters of several kinds, and not the account's name")
	}
	if p.History > 0 {
		parts = append(parts, fmt.Sprintf("none of the last %d passwords", p.History))
	}
	if p.MinDays > 0 {
		parts = append(parts, fmt.Sprintf("no change within %d days of the last one", p.MinDays))
	}
	if p.MaxDays > 0 {
		parts = append(parts, fmt.Sprintf("a change after at most %d days", p.MaxDays))
	}
	return strings.Join(parts, "; ")
}
