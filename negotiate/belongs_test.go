package negotiate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// A credential cache may get another principal while a ticket is fetched, before the identity has
// noticed: the ticket is not kept as the old principal's.
func TestPolicy_OtherPrincipal(t *testing.T) {
	alice := must.OK(messages.ParsePrincipal("alice@CORP.EXAMPLE", ""))(t)
	bob := must.OK(messages.ParsePrincipal("bob@CORP.EXAMPLE", ""))(t)
	path := filepath.Join(t.TempDir(), "ccache")
	file := ccache.CCache{DefaultPrincipal: alice}
	must.Do(t, os.WriteFile(path, must.OK(file.Marshal())(t), 0o600))
	i := initiatorWith(t, krb5core.Config{})
	i.id = must.OK(NewIdentity(IdentityConfig{Key: "ccache", Secret: CCacheSecret(ccache.File(path))}))(t)
	for _, client := range []messages.Principal{alice, bob} {
		policy := i.policy(i.tgtKey(), func(context.Context) (*Ticket, error) {
			return i.id.ticket(&messages.Credential{Client: client})
		})
		_, err := policy.Fetch(t.Context())
		if refused := errors.Is(err, errOtherPrincipal); refused != !client.Equal(alice) {
			t.Errorf("ticket of %s under a key of %s: %v", client, alice, err)
		}
	}
}
