package messages

import (
	"fmt"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// Credential is a ticket and what its client knows of it.
type Credential struct {
	Client    Principal
	Service   Principal
	Key       enctype.Key // session key
	AuthTime  time.Time
	StartTime time.Time // zero: same as AuthTime
	EndTime   time.Time
	RenewTill time.Time // zero: cannot be renewed
	Flags     TicketFlags
	Ticket    []byte // its original encoding

	// What a credential cache keeps besides.
	IsSKey       bool   // Ticket is under the session key of SecondTicket
	SecondTicket []byte // encoding of the ticket for user-to-user, nil for none
	Addresses    []HostAddress
	AuthData     AuthorizationData

	// Account is the client's account if the ticket is for a user whom its owner impersonates. It
	// is nil if none of the owner's keys opens the user's ticket to it.
	Account *Account
}

// Account is an account of a directory, as the PAC of a ticket describes it.
type Account struct {
	Name    string // sAMAccountName; "" if the ticket does not have it
	Machine bool   // the account is a computer's or a trust's
}

// NewCredential returns the credential in a KDC's reply and its decrypted part.
func NewCredential(rep *KDCRep, part *EncKDCRepPart) *Credential {
	return &Credential{
		Client:    Principal{rep.CName, rep.CRealm},
		Service:   Principal{part.SName, part.SRealm},
		Key:       part.Key,
		AuthTime:  part.AuthTime,
		StartTime: part.StartTime,
		EndTime:   part.EndTime,
		RenewTill: part.RenewTill,
		Flags:     part.Flags,
		Ticket:    rep.Ticket.Marshal(),
		Addresses: part.CAddr,
	}
}

// Start is when the ticket becomes valid: StartTime, or AuthTime if there is none.
func (c *Credential) Start() time.Time {
	if c.StartTime.IsZero() {
		return c.AuthTime
	}
	return c.StartTime
}

// String names the parties and the session key's type, no secret.
func (c Credential) String() string {
	return fmt.Sprintf("ticket of %s for %s (%s, until %s)", c.Client, c.Service, c.Key.EType(), c.EndTime.UTC().Format(time.RFC3339))
}

// Format keeps %+v and the like from showing the ticket.
func (c Credential) Format(s fmt.State, _ rune) { fmt.Fprint(s, c.String()) }
