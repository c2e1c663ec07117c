package negotiate

import (
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Event is something about an identity that an operator may want to know. It never
// contains a secret.
type Event interface{ event() }

// LoggedIn reports that the identity got a ticket-granting ticket.
type LoggedIn struct {
	// Principal is the account; the credential's client is not authenticated yet.
	Principal  messages.Principal
	Credential *messages.Credential
	Took       time.Duration
}

// NameCorrected reports that the account's KDC knows it by another name than the
// configured one.
type NameCorrected struct{ Configured, Principal messages.Principal }

// LoginFailed reports that a login failed.
type LoginFailed struct {
	Principal messages.Principal
	Err       error
	// Opened is until when no further login is tried, because the breaker opened; zero
	// if it did not.
	Opened time.Time
}

// SecretChanged reports that the file with the keys or the password has changed and was
// read.
type SecretChanged struct{ Path string }

// SecretBroken reports that the file has changed and cannot be used. Its previous
// content stays in use.
type SecretBroken struct {
	Path string
	Err  error
}

// SecretStale reports that the new content of the file was refused while the previous
// one is still good.
type SecretStale struct {
	Path string
	Err  error
}

// PasswordRead reports that the password of a group managed service account was read.
type PasswordRead struct {
	Principal messages.Principal
	// Server is the domain controller, as host:port.
	Server string
	// Changed reports whether another password was held before.
	Changed bool
}

// PasswordUnread reports that the password of a group managed service account cannot be read
// again. The one that is held stays in use.
type PasswordUnread struct {
	Principal messages.Principal
	Err       error
}

// RenewFailed reports that a ticket of a credential cache could not be renewed. It stays
// in use until it ends.
type RenewFailed struct {
	Path string
	Ends time.Time
	Err  error
}

// GotTicket reports that the identity got a service ticket.
type GotTicket struct {
	Credential *messages.Credential
	EType      enctype.ID // of the session key; 0 if it is not known
	Took       time.Duration
}

// TicketFailed reports that the identity could not get a service ticket.
type TicketFailed struct {
	Principal messages.Principal
	SPN       SPN
	Err       error
}

// PurgeFailed reports that the operating system did not forget its ticket for a service.
type PurgeFailed struct {
	SPN SPN
	Err error
}

// AcceptorClockOff reports, once for a service, that its clock is ahead of the local one, or with a
// negative Offset behind it, by more than it accepts. Tokens for it have its time from now on.
type AcceptorClockOff struct {
	Principal messages.Principal
	SPN       SPN
	Offset    time.Duration
}

// FetchPanicked reports that getting a ticket panicked, which is a fault of the program.
// Err has the stack.
type FetchPanicked struct {
	Principal messages.Principal
	Err       *cache.PanicError
}

func (LoggedIn) event()       {}
func (NameCorrected) event()  {}
func (LoginFailed) event()    {}
func (SecretChanged) event()  {}
func (SecretBroken) event()   {}
func (SecretStale) event()    {}
func (PasswordRead) event()   {}
func (PasswordUnread) event() {}
func (RenewFailed) event()    {}
func (GotTicket) event()      {}
func (TicketFailed) event()   {}
func (PurgeFailed) event()    {}
func (FetchPanicked) event()  {}

func (AcceptorClockOff) event() {}
