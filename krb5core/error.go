package krb5core

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Op is the operation in which an [Error] occurred.
type Op string

// The operations.
const (
	OpLogin    Op = "login"
	OpArmor    Op = "login for FAST armor"
	OpRenew    Op = "renew"
	OpService  Op = "service ticket"
	OpForward  Op = "forwarded ticket"
	OpS4USelf  Op = "S4U2Self ticket"
	OpS4UProxy Op = "delegated ticket"
	OpPassword Op = "change of the password"
)

// Error is how every exchange of a [Client] fails. It does not change after it is returned.
type Error struct {
	Op Op
	// Code is the KDC's error code, valid if Refused: the KDC replied with a KRB-ERROR (RFC 4120,
	// Section 7.5.9), rather than not at all or with garbage.
	Code    messages.ErrorCode
	Refused bool
	// Confirmed means that the refusal came, or came again, over TCP. A KRB-ERROR is not
	// authenticated, and in a datagram anyone can forge it (RFC 4120, Section 3.1.3): a refusal
	// that is not confirmed must not be remembered for long.
	Confirmed bool
	// Realm, Client, Service and KDC name who was asked what. KDC may be empty.
	Realm, Client, Service, KDC string
	// PreAuths is how many proofs of a key the login had sent when it failed
	// (exchange.Budget), of OpArmor as the account that provides the armor.
	PreAuths int
	// Status is the NTSTATUS of Windows or Samba, if they send it ([MS-KILE]
	// 2.2.1), else 0.
	Status messages.NTStatus
	// Salt is the password's salt as named by the KDC, valid if HasSalt: a keytab whose key was
	// derived with another one is useless. It is cut after 500 bytes.
	Salt    string
	HasSalt bool
	Err     error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Op))
	client, service := " for %s", " to %s"
	if e.Op == OpS4USelf { // the user's name is that of the service
		client, service = " requested by %s", " for %s"
	}
	if e.Client != "" {
		fmt.Fprintf(&b, client, e.Client)
	}
	if e.Service != "" {
		fmt.Fprintf(&b, service, e.Service)
	}
	if e.KDC != "" {
		fmt.Fprintf(&b, " at %s", e.KDC)
	}
	if e.Err != nil {
		b.WriteString(": " + clip(e.Err.Error(), maxErrorText))
	}
	return b.String()
}

// How much an error shows of texts from the network, in bytes: they may be forged, and are logged.
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

// salted notes what the KDC said of the client's key, before the error is returned.
func (e *Error) salted(hint *exchange.PreAuthHint) {
	if hint != nil && hint.HasSalt {
		e.Salt, e.HasSalt = clip(hint.Salt, maxErrorSalt), true
	}
}

// Unwrap returns the cause: a *messages.KRBError, an *exchange.ReplyError, a
// *kdc.UnreachableError, or a context's error, among others.
func (e *Error) Unwrap() error { return e.Err }

// Is matches a target with the same Code, and the same Op or none: errors.Is(err,
// &Error{Code: messages.KDC_ERR_PREAUTH_FAILED}) matches a refused key.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && e.Refused && t.Code == e.Code && (t.Op == "" || t.Op == e.Op)
}

// Code returns the code of a KDC's refusal, anywhere in the chain of err.
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
