package exchange

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Bounds of every exchange.
const (
	// DefaultMaxSkew is how far clocks may differ, unless configured otherwise (RFC 4120, Section
	// 1.6 suggests 5 minutes).
	DefaultMaxSkew = 5 * time.Minute
	// MaxHops is the number of referrals that one exchange follows (RFC 6806, Section 9 asks for a
	// limit and suggests 10).
	MaxHops = 10
)

// Request is a request to a KDC.
type Request struct {
	Realm   string // whose KDC is to be asked
	Message []byte // the DER of an AS-REQ or TGS-REQ, to be sent as it is
	PreAuth bool   // carries a proof of a key: a wrong one counts towards lockout, so it must not be sent to two KDCs at once
	TCP     bool   // what a datagram said is being confirmed: to be sent over TCP, unless no KDC of the realm speaks it
}

// Machine is one exchange with KDCs.
type Machine interface {
	// Step takes the reply to the last request and returns the next one, or nil, nil when the
	// exchange is done. The first call takes nil. After an error that wraps ErrForeign the machine
	// waits for another reply; any other ends it.
	Step(reply []byte) (*Request, error)
	// Check reports whether reply answers the open request: nil if Step would use it (also if it is
	// a KRB-ERROR). An error that does not wrap ErrForeign is a local failure, such as a key source
	// that cannot be read.
	Check(reply []byte) error
}

// Env is the environment of a client's exchanges: its settings, clock and source of randomness.
type Env struct {
	ETypes   []enctype.ID     // allowed types of keys in order of preference, nil for enctype.Strong
	Lifetime time.Duration    // of the ticket, 0 for as long as the KDC or the TGT allows
	MaxSkew  time.Duration    // 0 for DefaultMaxSkew
	Now      func() time.Time // the realm's time as far as known; nil for time.Now
	Rand     io.Reader        // nil for crypto/rand
	Trace    func(Event)      // called for each decision; nil for none
}

// Session is a ticket-granting ticket and the environment of the exchanges that use it.
type Session struct {
	Env
	TGT *messages.Credential

	// FAST armors the requests with the TGT in them (RFC 6113, Section 5.4.1.1). Requests for a user
	// (S4U) must be answered with armor by the KDCs of the client's own realm. Tickets for the client
	// are accepted without: the subkey of the request encrypts both. KDCs of other realms may not
	// support it.
	FAST bool

	// Known returns the TGT for a foreign realm that is held already, or nil.
	Known func(realm string) *messages.Credential
	// CAPath returns the realms between client and server ([capaths]); nil if nothing is configured
	// for the two, empty if they trust each other directly. A configured path is the only one that
	// is taken to a named realm.
	CAPath func(client, server string) []string
}

// MaxProofs bounds the proofs of a key that a login makes. A KDC that does not answer is no reason
// for another proof: the next KDC gets the same message. Domains lock accounts after as few as five
// wrong proofs, and other programs use the account too.
const MaxProofs = 3

// Budget bounds the proofs of a key, the requests with pre-authentication, each of which may count
// towards lockout whatever the KDC answers. One budget goes through all exchanges of a login: the
// AS machine spends it, and a caller that logs in again and again reads it afterwards. It is for
// one goroutine.
type Budget struct{ left, sent int }

// NewBudget returns a budget of so many proofs, at most MaxProofs.
func NewBudget(proofs int) *Budget { return &Budget{left: min(proofs, MaxProofs)} }

// Left is how many proofs may still be sent.
func (b *Budget) Left() int { return b.left }

// Sent is how many proofs were sent.
func (b *Budget) Sent() int { return b.sent }

func (b *Budget) spend() {
	b.left--
	b.sent++
}

// Charge adds the proofs of another budget: those of a second key of the account.
func (b *Budget) Charge(other *Budget) {
	b.left = max(b.left-other.sent, 0)
	b.sent += other.sent
}

// ErrForeign is wrapped by the errors of Step and Check for a reply that does not answer the open
// request or does not verify.
var ErrForeign = errors.New("not a valid answer to the request")

// ErrFinished is returned by Step and Check after the exchange has ended.
var ErrFinished = errors.New("exchange has ended")

// ReplyError is the check that a reply failed. It wraps ErrForeign.
type ReplyError struct {
	Field     string // what was checked, by its name in the RFC: "nonce", "cname", "key.keytype"
	Want, Got string // may be empty; never a secret
	Err       error  // the cause, if one is known
}

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
func (e *ReplyError) Unwrap() error        { return e.Err }

// ReferralError is why a referral was not followed. It is final.
type ReferralError struct {
	Realm  string   // the realm that the last reply refers to
	Via    []string // the realms asked so far, in order
	Reason string   // "loop", "too many hops", ...
}

func (e *ReferralError) Error() string {
	return fmt.Sprintf("referral to realm %q not followed after %q: %s", e.Realm, e.Via, e.Reason)
}

// UnconfiguredRealmError means that the KDC referred a client with a password to a realm that
// ASConfig.Configured does not name. The password is not proved there. It is final.
type UnconfiguredRealmError struct{ Realm string }

func (e *UnconfiguredRealmError) Error() string {
	return fmt.Sprintf("the KDC refers to realm %q, which is not configured, so the password is not proved there", e.Realm)
}

// ETypeError means that client and KDC have no usable encryption type in common. It is final.
type ETypeError struct {
	Offered []enctype.ID // named by the KDC; nil if it named none
	Allowed []enctype.ID // what we may use
	Err     error        // why each offered type was not used, ErrNoKey among them
}

func (e *ETypeError) Error() string {
	s := fmt.Sprintf("no usable encryption type: the KDC names %v, allowed are %v", e.Offered, e.Allowed)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *ETypeError) Unwrap() error { return e.Err }

// UnarmoredError is a refusal without armor of a request with FAST. It may be forged, so it is a
// hint, not a refusal to rely on, and nothing is sent unarmored because of it. It is final.
type UnarmoredError struct{ Err *messages.KRBError }

func (e *UnarmoredError) Error() string {
	return fmt.Sprintf("the KDC answered without FAST armor, so the answer may be forged, and nothing is sent without: %v; "+
		"does the KDC do FAST, is the armor's ticket of its realm and still good?", e.Err)
}

func (e *UnarmoredError) Unwrap() error { return e.Err }

// Event is a decision of a machine, described in text. It never holds a secret.
type Event interface{ String() string }

// KeyChosen is reported when the client proves a key.
type KeyChosen struct {
	EType    enctype.ID
	Salt     string
	HasSalt  bool // the KDC named the salt
	FromHint bool // known from an earlier login
}

// Referral means that the KDC of From issued a ticket for the KDC of To (RFC 6806, Section 8).
type Referral struct{ From, To string }

// SkewLearnt is the offset of a realm's clock.
type SkewLearnt struct {
	Realm     string
	Offset    time.Duration // to be added to our time
	Confirmed bool          // by a decrypted reply
}

// EncPARepVerified means that the KDC confirmed the request as it was sent (RFC 6806, Section 11).
type EncPARepVerified struct{ Realm string }

// ReplyRefused is why a reply was ignored.
type ReplyRefused struct{ Err error }

// Note is any other decision. Its text is formatted only if it is read.
type Note struct {
	format string
	args   []any
}

func (e KeyChosen) String() string {
	from := "default salt, none named by the KDC"
	if e.HasSalt {
		from = "salt named by the KDC"
	}
	if e.FromHint {
		from += " at an earlier login"
	}
	return fmt.Sprintf("pre-authenticating with %s, salt %q (%s)", e.EType, e.Salt, from)
}

func (e Referral) String() string {
	return fmt.Sprintf("realm %s refers to realm %s", e.From, e.To)
}

func (e SkewLearnt) String() string {
	state := "not yet confirmed"
	if e.Confirmed {
		state = "confirmed"
	}
	return fmt.Sprintf("clock of realm %s is off ours by %s, %s", e.Realm, e.Offset, state)
}

func (e EncPARepVerified) String() string {
	return fmt.Sprintf("realm %s confirmed our request unaltered", e.Realm)
}

func (e ReplyRefused) String() string { return e.Err.Error() }

func (n Note) String() string { return fmt.Sprintf(n.format, n.args...) }

func (c *common) tracef(format string, args ...any) { c.Trace(Note{format, args}) }

func (c *common) traceAgain(realm, reason string) {
	c.tracef("asking realm %s again: %s", realm, reason)
}

// traceClientReferral reports that the client's account is in another realm (RFC 6806, Section 7).
func (c *common) traceClientReferral(from, to string) {
	c.tracef("realm %s refers the client to realm %s", from, to)
}

func (c *common) traceTicket(cred *messages.Credential, rep *messages.KDCRep) {
	c.tracef("ticket for %s as %s: session key %s, ticket key %s, flags %s, ends %s",
		cred.Service, cred.Client, cred.Key.EType(), rep.Ticket.EncPart.EType, cred.Flags, cred.EndTime.UTC().Format(time.RFC3339))
}
