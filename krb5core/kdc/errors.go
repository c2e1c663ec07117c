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
	// not answer the question.
	ErrForeign = errors.New("foreign reply")
	// ErrReplyTooBig is wrapped when a reply exceeds Options.MaxReplySize, or
	// does not fit a datagram and TCP does not serve.
	ErrReplyTooBig = errors.New("reply too big")
	// ErrUnsupported is wrapped when an option or a combination of options
	// cannot be had here.
	ErrUnsupported = errors.New("not supported")
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

// String names the KDC and why it failed.
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

// Error names each KDC and why it did not serve.
func (e *UnreachableError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no KDC of realm %s could be reached", e.Realm)
	if e.Cause != nil {
		fmt.Fprintf(&b, " (%v)", e.Cause)
	}
	separator := ": "
	for _, a := range e.Attempts {
		b.WriteString(separator)
		b.WriteString(a.String())
		separator = "; "
	}
	return b.String()
}

// Unwrap gives the cause and the error of each attempt.
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
