package negotiate

import (
	"context"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// origin is where an identity's ticket-granting tickets come from: a login with
// keys ([keyring]) or a credential cache that somebody else fills
// ([credentialCache]).
type origin interface {
	// reload reads the file again if it has changed, and tells whether it had.
	// What cannot be read does no harm to what is held.
	reload() (changed bool, err error)
	// principal is whose tickets they are, as far as known without a KDC.
	principal() messages.Principal
	// account is whom to ask for further tickets as.
	account() *krb5core.Account
	// tgt wins a ticket-granting ticket, with at most that many pre-authenticated
	// requests. It is not called twice at a time.
	tgt(ctx context.Context, s *Settings, preAuths int) (*messages.Credential, error)
	// held gives a service ticket that is there without asking, nil if there is none.
	held(s *Settings, spn SPN) *messages.Credential
	// forget lets everything be tried again.
	forget()
}
