package negotiate

import (
	"context"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// ticketSource is where an identity's ticket-granting tickets come from: a login with
// keys ([keyring]) or a credential cache that another program fills ([credentialCache]).
type ticketSource interface {
	// reload reads the file again if it has changed, and reports whether it had. A file
	// that cannot be read leaves what is held in use.
	reload() (changed bool, err error)
	// principal is the client of the tickets, as far as known without a KDC.
	principal() messages.Principal
	// account is the account to request further tickets as.
	account() *krb5core.Account
	// tgt gets a ticket-granting ticket within the budget. It is not called twice at a
	// time.
	tgt(ctx context.Context, s *Settings, budget *exchange.Budget) (*messages.Credential, error)
	// held returns a service ticket that is there without a request, nil if there is none.
	held(s *Settings, spn SPN) *messages.Credential
	// forget lets everything be tried again.
	forget()
}
