package exchange

import (
	"fmt"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Event is a decision that a machine has made, with a text for people. It never holds a secret.
type Event interface {
	String() string
	event()
}

// KeyChosen tells with which key the client will prove itself.
type KeyChosen struct {
	EType    enctype.ID
	Salt     string
	HasSalt  bool // the KDC named the salt
	FromHint bool // known from an earlier login
}

// ETypeSkipped tells why an encryption type that the KDC named is not used.
type ETypeSkipped struct {
	EType  enctype.ID
	Reason error
}

// AskedAgain tells why the same thing is asked once more.
type AskedAgain struct {
	Realm  string
	Reason string
}

// CredentialsRefused tells that the KDC did not accept the proof of a key.
type CredentialsRefused struct {
	EType    enctype.ID
	Salt     string
	Code     messages.ErrorCode
	Requests int // requests with such proof so far
}

// ClientReferral tells that the client's account is in another realm (RFC 6806 7).
type ClientReferral struct{ From, To string }

// Referral tells that the KDC of From gave a ticket for the KDC of To (RFC 6806 8).
type Referral struct{ From, To string }

// SkewLearnt tells by how much the clock of a realm differs from ours.
type SkewLearnt struct {
	Realm     string
	Offset    time.Duration // to be added to our time
	Confirmed bool          // by a decrypted reply
}

// EncPARepVerified tells that the KDC has confirmed the request as we sent it (RFC 6806 11).
type EncPARepVerified struct{ Realm string }

// SessionKeyReply tells that a KDC ignored the subkey and encrypted its reply with the session key.
type SessionKeyReply struct{ Realm string }

// DelegateFlagDropped tells that ok-as-delegate is not believed, because the way to the realm is not trusted that far.
type DelegateFlagDropped struct{ Service messages.Principal }

// UserRealmFound tells in which realm a user to act for has an account.
type UserRealmFound struct{ User, Realm string }

// TicketWon tells that a ticket has been got.
type TicketWon struct {
	Client, Service messages.Principal
	KeyEType        enctype.ID // of the session key
	TicketEType     enctype.ID // of the service's key
	Flags           messages.TicketFlags
	EndTime         time.Time
}

// ReplyRefused tells why a reply was passed over.
type ReplyRefused struct{ Err error }

func (KeyChosen) event()           {}
func (ETypeSkipped) event()        {}
func (AskedAgain) event()          {}
func (CredentialsRefused) event()  {}
func (ClientReferral) event()      {}
func (Referral) event()            {}
func (SkewLearnt) event()          {}
func (EncPARepVerified) event()    {}
func (SessionKeyReply) event()     {}
func (DelegateFlagDropped) event() {}
func (UserRealmFound) event()      {}
func (TicketWon) event()           {}
func (ReplyRefused) event()        {}

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

func (e ETypeSkipped) String() string {
	return fmt.Sprintf("%s named by the KDC is not used: %v", e.EType, e.Reason)
}

func (e AskedAgain) String() string {
	return fmt.Sprintf("asking realm %s again: %s", e.Realm, e.Reason)
}

func (e CredentialsRefused) String() string {
	return fmt.Sprintf("the KDC refused the key of type %s with salt %q: %s (%d pre-authenticated requests so far)",
		e.EType, e.Salt, e.Code, e.Requests)
}

func (e ClientReferral) String() string {
	return fmt.Sprintf("realm %s refers the client to realm %s", e.From, e.To)
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

func (e SessionKeyReply) String() string {
	return fmt.Sprintf("realm %s ignored our subkey and used the session key", e.Realm)
}

func (e DelegateFlagDropped) String() string {
	return fmt.Sprintf("ok-as-delegate of %s is not believed: the ticket for its realm lacks it", e.Service)
}

func (e UserRealmFound) String() string {
	return fmt.Sprintf("user %s has an account in realm %s", e.User, e.Realm)
}

func (e TicketWon) String() string {
	return fmt.Sprintf("ticket for %s as %s: session key %s, ticket key %s, flags %s, ends %s",
		e.Service, e.Client, e.KeyEType, e.TicketEType, e.Flags, e.EndTime.UTC().Format(time.RFC3339))
}

func (e ReplyRefused) String() string { return e.Err.Error() }
