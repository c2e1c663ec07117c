package kdc

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrNoAnswer is wrapped by the error of a KDC that was asked and stayed
	// silent.
	ErrNoAnswer = errors.New("no answer")
	// ErrForeign is wrapped by the error of a reply that is malformed or does
	// not answer the request.
	ErrForeign = errors.New("foreign reply")
	// ErrReplyTooBig is wrapped when a reply exceeds Options.MaxReplySize, or
	// does not fit a datagram and TCP cannot be used.
	ErrReplyTooBig = errors.New("reply too big")
	// ErrUnsupported is wrapped when an option or a combination of options
	// cannot be had here.
	ErrUnsupported = errors.New("not supported")
)

// Reasons to ask the same KDC by TCP, and the last two the next KDC.
var (
	errTooBigForUDP = errors.New("the reply is too big for UDP")
	errDeclined     = errors.New("the KDC declined to serve")
	errUnproven     = fmt.Errorf("%w: its sender did not prove to be a KDC of the realm", ErrForeign)
)

// Attempt is how one try at one KDC ended.
type Attempt struct {
	Server Server
	// Addr is the IP address, empty if none could be found out.
	Addr string
	// Protocol is empty if it did not come to sending.
	Protocol Protocol
	Err      error
}

func (a Attempt) String() string {
	var b strings.Builder
	b.WriteString(a.Server.String())
	var details []string
	if a.Addr != "" && a.Addr != a.Server.Host {
		details = append(details, a.Addr)
	}
	if a.Protocol != "" && string(a.Protocol) != a.Server.Scheme {
		details = append(details, string(a.Protocol))
	}
	if len(details) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(details, ", "))
	}
	fmt.Fprintf(&b, ": %v", a.Err)
	return b.String()
}

// UnreachableError says that no KDC of a realm answered.
type UnreachableError struct {
	Realm string
	// Attempts are in the order in which they ended.
	Attempts []Attempt
	// Cause is why the search ended before every KDC had failed: the
	// context's error or [ErrNoAnswer]; nil if all have failed.
	Cause error
}

func (e *UnreachableError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no KDC of realm %s could be reached", e.Realm)
	if e.Cause != nil {
		fmt.Fprintf(&b, " (%v)", e.Cause)
	}
	for i, a := range e.Attempts {
		b.WriteString([]string{": ", "; "}[min(i, 1)] + a.String())
	}
	return b.String()
}

func (e *UnreachableError) Unwrap() []error {
	var errs []error
	if e.Cause != nil {
		errs = append(errs, e.Cause)
	}
	for _, a := range e.Attempts {
		errs = append(errs, a.Err)
	}
	return errs
}
