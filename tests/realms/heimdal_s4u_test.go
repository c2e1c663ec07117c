package realms

import (
	"errors"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Heimdal 7 does not confirm the user of an S4U2Self request: a key of the account has to
// open the ticket, and the user has to be named plainly.
func TestHeimdal_S4U2Self(t *testing.T) {
	h := startHeimdal(t)
	h.kadmin("add", "-p", "secret", "--use-defaults", "alice")
	h.kadmin("add", "-p", "secret", "--use-defaults", "--attributes=requires-pre-auth,trusted-for-delegation", "HTTP/proxy.heimdal.test")
	h.only("HTTP/proxy.heimdal.test", "aes256-cts-hmac-sha1-96")
	h.kadmin("ext_keytab", "-k", h.path("proxy.keytab"), "HTTP/proxy.heimdal.test")
	h.run()
	client, _ := h.client(t, func(*krb5core.Config) {})
	account := keys(t, "HTTP/proxy.heimdal.test@"+heimdalRealm, readKeytab(t, h.path("proxy.keytab")))
	tgt := login(t, client, account)
	alice := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "alice"), Realm: heimdalRealm}
	cred, err := client.TicketForUser(t.Context(), account, tgt, alice)
	if err != nil {
		t.Fatal(err)
	}
	if got := cred.Client.String(); got != "alice@"+heimdalRealm {
		t.Errorf("ticket of %s", got)
	}
	// The account of a credential cache has no key.
	if _, err = client.TicketForUser(t.Context(), krb5core.NewAccount(account.Principal(), nil, nil), tgt, alice); !errors.Is(err, exchange.ErrUserNotProven) {
		t.Errorf("without a key: %v", err)
	}
}
