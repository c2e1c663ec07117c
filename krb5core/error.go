package krb5core

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Op is what was being done when an [Error] occurred.
type Op string

// The operations.
const (
	OpLogin    Op = "login"
	OpArmor    Op = "login for FAST armor"
	OpRenew    Op = "renew"
	OpService  Op = "service ticket"
	OpForward  Op = "forwarded ticket"
	OpS4USelf  Op = "ticket for user"
	OpS4UProxy Op = "delegated ticket"
)

// Error is how every exchange of a [Client] fails.
type Error struct {
	Op Op
	// Code is the KDC's verdict, valid if Refused: a KRB-ERROR came (RFC 4120
	// 7.5.9), rather than nothing or garbage.
	Code    messages.ErrorCode
	Refused bool
	// Confirmed says that the verdict came, or came again, by a stream. A
	// KRB-ERROR is not authenticated, and in a datagram anyone may forge it
	// (RFC 4120 3.1.3): what is not confirmed must not be remembered for long.
	Confirmed bool
	// Realm, Client, Service and KDC name who was asked what. KDC may be empty.
	Realm, Client, Service, KDC string
	// PreAuths counts the requests with pre-authentication that were sent, of
	// OpArmor for either account. Each may count against the account's lockout
	// threshold.
	PreAuths int
	// KeysRefused counts those of them that the KDC answered by saying that the
	// key is wrong.
	KeysRefused int
	// Status is why Windows or Samba really refused, where they tell ([MS-KILE]
	// 2.2.1), else 0.
	Status messages.NTStatus
	// Salt is what the KDC said that the password is salted with, valid if
	// HasSalt: a keytab whose key was made with another is of no use. Of one that
	// is longer than 500 octets it is the beginning.
	Salt    string
	HasSalt bool
	Err     error
}

// Error names the operation, the parties and the cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Op))
	if e.Client != "" {
		fmt.Fprintf(&b, " for %s", e.Client)
	}
	if e.Service != "" {
		fmt.Fprintf(&b, " to %s", e.Service)
	}
	if e.KDC != "" {
		fmt.Fprintf(&b, " at %s", e.KDC)
	}
	if e.Err != nil {
		b.WriteString(": " + clip(e.Err.Error(), maxErrorText))
	}
	if e.HasSalt && e.keyRefused() {
		fmt.Fprintf(&b, "; the KDC salts the password with %q, as the key must have been", e.Salt)
	}
	return b.String()
}

// What an error shows of the KDC's words, in octets: they may be anybody's, and are
// logged.
const (
	maxErrorText = 8000
	maxErrorSalt = 500
)

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// keyRefused tells whether the verdict was about the key.
func (e *Error) keyRefused() bool {
	return e.Refused && (e.Code == messages.KDC_ERR_PREAUTH_FAILED || e.Code == messages.KRB_AP_ERR_BAD_INTEGRITY)
}

// Unwrap gives the cause: a *messages.KRBError, an *exchange.ReplyError, a
// *kdc.UnreachableError, or a context's error, among others.
func (e *Error) Unwrap() error { return e.Err }

// Is matches an *Error that gives a Code, and an Op or none: errors.Is(err,
// &Error{Code: messages.KDC_ERR_PREAUTH_FAILED}) asks for a refusal.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && e.Refused && t.Code == e.Code && (t.Op == "" || t.Op == e.Op)
}

// Code gives the code with which a KDC refused, wherever in the chain it is.
func Code(err error) (messages.ErrorCode, bool) {
	var e *Error
	if errors.As(err, &e) && e.Refused {
		return e.Code, true
	}
	if k, ok := errors.AsType[*messages.KRBError](err); ok {
		return k.Code(), true
	}
	return 0, false
}
