package exchange

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// Bounds of every exchange.
const (
	// DefaultMaxSkew is how far clocks may differ, unless configured otherwise (RFC 4120 1.6 suggests 5 minutes).
	DefaultMaxSkew = 5 * time.Minute
	// MaxHops is the number of referrals that one exchange follows (RFC 6806 9 asks for a limit and suggests 10).
	MaxHops = 10
)

// Request is a question to a KDC.
type Request struct {
	Realm   string // whose KDC is to be asked
	Message []byte // the DER of an AS-REQ or TGS-REQ, to be sent as it is
	PreAuth bool   // carries proof of a key: a wrong one counts towards lockout, so it must not reach two KDCs at once
}

// Machine is what all exchanges have in common.
type Machine interface {
	// Step takes the answer to the last request and returns the next one, or nil, nil when the exchange is done. The first
	// call takes nil. An error that wraps ErrForeign leaves the machine waiting for another answer; any other ends it.
	Step(reply []byte) (*Request, error)
	// Check tells whether reply answers the request that is open: nil if Step would act on it (an error from the KDC
	// included). An error that does not wrap ErrForeign is a failure of our own, such as a key source that cannot be read.
	Check(reply []byte) error
}

var (
	_ Machine = (*AS)(nil)
	_ Machine = (*TGS)(nil)
	_ Machine = (*S4U2Self)(nil)
	_ Machine = (*S4U2Proxy)(nil)
)

// ErrForeign is wrapped by the errors of Step and Check for a reply that does not answer the open question or does not
// verify.
var ErrForeign = errors.New("not a valid answer to the request")

// ErrFinished is returned by Step and Check after the exchange has ended.
var ErrFinished = errors.New("exchange has ended")

// ReplyError says which check a reply did not pass. It wraps ErrForeign.
type ReplyError struct {
	Field     string // what was checked, by its name in the RFC: "nonce", "cname", "key.keytype"
	Want, Got string // may be empty; never a secret
	Err       error  // the cause, if one is known
}

// Error names the field and both values.
func (e *ReplyError) Error() string {
	s := "reply not accepted: " + e.Field
	if e.Got != "" {
		s += " is " + e.Got
	}
	if e.Want != "" {
		s += ", must be " + e.Want
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is reports true for ErrForeign.
func (e *ReplyError) Is(target error) bool { return target == ErrForeign }

// Unwrap returns the cause.
func (e *ReplyError) Unwrap() error { return e.Err }

// ReferralError says why a chain of referrals was not followed further. It is final.
type ReferralError struct {
	Realm  string   // the realm that the last answer points to
	Via    []string // the realms asked so far, in order
	Reason string   // "loop", "too many hops", ...
}

// Error names the reason and the realms.
func (e *ReferralError) Error() string {
	return fmt.Sprintf("referral to realm %q not followed after %q: %s", e.Realm, e.Via, e.Reason)
}

// ETypeError means that the KDC and we have no usable encryption type in common. It is final.
type ETypeError struct {
	Offered []enctype.ID // what the KDC names; nil if it named none
	Allowed []enctype.ID // what we may use
	Err     error        // why each offered type was passed over, ErrNoKey among them
}

// Error lists both sides.
func (e *ETypeError) Error() string {
	s := fmt.Sprintf("no usable encryption type: the KDC names %v, allowed are %v", e.Offered, e.Allowed)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the reasons.
func (e *ETypeError) Unwrap() error { return e.Err }
