package signin

import (
	"context"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
)

// User is a user who has signed in. It must not be modified: requests with one ticket share
// what it points to.
type User struct {
	// Principal is the user, as the KDC names them.
	Principal messages.Principal
	// Account has the SID and the groups, those that only deny apart from the others; nil if the
	// ticket had no PAC with them. For a session it has nothing else.
	Account *accept.Account
	// Evidence is the user's ticket to Acceptor with its session key, for S4U2Proxy; nil if this
	// process does not hold it (any more), as for a session from before a restart.
	Evidence *messages.Credential
	// Acceptor is the account whose key opened the ticket, as the configuration names it.
	Acceptor messages.Principal
	// SignedIn is when the token was verified.
	SignedIn time.Time
	// Ends is when the ticket ends.
	Ends time.Time
}

// Format keeps %+v, and the placeholders of variables, from showing the ticket.
func (u *User) Format(s fmt.State, _ rune) { fmt.Fprint(s, u.Principal) }

// MarshalText keeps encoders from showing it: log_append encodes a variable as JSON.
func (u *User) MarshalText() ([]byte, error) { return []byte(u.Principal.String()), nil }

// userVar is the variable of a request that has the user.
const userVar = "caddy_negotiate.user"

// SetUser records who has signed in for the rest of a request. The context is that of a
// request which Caddy has prepared.
func SetUser(ctx context.Context, u *User) { caddyhttp.SetVar(ctx, userVar, u) }

// UserOf returns who has signed in by negotiate_auth in a request; nil if no one has.
func UserOf(ctx context.Context) *User {
	u, _ := caddyhttp.GetVar(ctx, userVar).(*User)
	return u
}
