package exchange

import (
	"fmt"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

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
