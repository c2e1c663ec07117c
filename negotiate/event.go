package negotiate

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Event is something about an identity that an operator may want to know. It
// never holds a secret.
type Event interface{ event() }

// LoggedIn tells that a ticket-granting ticket was won.
type LoggedIn struct {
	Credential *messages.Credential
	Took       time.Duration
}

// LoginFailed tells that a login failed.
type LoginFailed struct {
	Principal messages.Principal
	Err       error
	// Opened tells that nothing more is tried until then; zero if it is.
	Opened time.Time
}

// SecretChanged tells that the file with the keys or the password has changed
// and was read.
type SecretChanged struct{ Path string }

// SecretBroken tells that the file has changed and cannot be used. What it held
// before serves on.
type SecretBroken struct {
	Path string
	Err  error
}

// SecretStale tells that the new content of the file was refused while the old
// one is still good.
type SecretStale struct {
	Path string
	Err  error
}

// RenewFailed tells that a ticket of a credential cache could not be renewed; it serves
// until it ends.
type RenewFailed struct {
	Path string
	Ends time.Time
	Err  error
}

// TicketWon tells that a service ticket was won.
type TicketWon struct {
	Credential *messages.Credential
	Took       time.Duration
}

// TicketFailed tells that a service ticket could not be had.
type TicketFailed struct {
	Principal messages.Principal
	SPN       SPN
	Err       error
}

func (LoggedIn) event()      {}
func (LoginFailed) event()   {}
func (SecretChanged) event() {}
func (SecretBroken) event()  {}
func (SecretStale) event()   {}
func (RenewFailed) event()   {}
func (TicketWon) event()     {}
func (TicketFailed) event()  {}
