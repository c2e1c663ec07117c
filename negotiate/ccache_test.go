package negotiate_test

import (
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// kinit logs a user in and replaces the credential cache of the world's folder by one with their
// ticket-granting ticket.
func (w *world) kinit(user, password string) (path string, tgt *messages.Credential) {
	w.T.Helper()
	principal := must.OK(krb5core.ParseUser(user+"@"+realmName, krb5core.UserForm{}))(w.T)
	keys := krb5core.PasswordKeys(func() (string, error) { return password, nil })
	account := krb5core.NewAccount(principal, keys, krb5core.NewClock(w.Clock.Now))
	tgt = must.OK(w.settings.Client.Login(w.T.Context(), account, nil))(w.T)
	file := ccache.CCache{DefaultPrincipal: tgt.Client, Credentials: []messages.Credential{*tgt}}
	return w.write("ccache", must.OK(file.Marshal())(w.T)), tgt
}

// An identity with a configured user does not follow its credential cache to another principal.
func TestCCache_Pinned(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	w.Realm.AddUser("second", "another")
	path, _ := w.kinit("svc-proxy", "right")
	id := w.Identity(negotiate.PinnedCCacheSecret(ccache.File(path), w.Principal()))
	initiator := id.Initiator(w.settings)
	ticket, _, err := serviceTicket(t, initiator, &w.target)
	must.Do(t, err)
	for range 3 {
		w.kinit("second", "another")
		w.Clock.Advance(2 * time.Second)
		kept, _, err := serviceTicket(t, initiator, &w.target)
		must.Do(t, err)
		if kept != ticket || !id.Principal().Equal(w.Principal()) {
			t.Fatalf("a ticket of %s, the identity is %s", kept.Client(), id)
		}
		if tgt := must.OK(initiator.Login(t.Context()))(t); tgt.Client() != w.Principal().String() {
			t.Fatalf("a ticket-granting ticket of %s", tgt.Client())
		}
	}
	if n := seen[negotiate.SecretBroken](w); n != 1 {
		t.Errorf("warned %d times, want once", n)
	}
	w.Clock.Advance(time.Minute)
	_, fresh := w.kinit("svc-proxy", "right")
	w.Clock.Advance(2 * time.Second)
	_, _, err = serviceTicket(t, initiator, &w.target)
	must.Do(t, err)
	if tgt := must.OK(initiator.Login(t.Context()))(t); !tgt.Credential().EndTime.Equal(fresh.EndTime) {
		t.Error("the file of the configured principal is not taken again")
	}
	w.kinit("second", "another")
	w.Clock.Advance(2 * time.Second)
	_, _, err = serviceTicket(t, initiator, &w.target)
	must.Do(t, err)
	if n := seen[negotiate.SecretBroken](w); n != 2 {
		t.Errorf("warned %d times, want once each time that the principal changes", n)
	}
}

func TestCCache_PinnedToAnother(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	path, _ := w.kinit("svc-proxy", "right")
	other := must.OK(krb5core.ParseUser("second@"+realmName, krb5core.UserForm{}))(t)
	_, err := negotiate.NewIdentity(negotiate.IdentityConfig{Key: "ccache", Principal: other, Secret: negotiate.PinnedCCacheSecret(ccache.File(path), other)})
	if err == nil {
		t.Error("an identity of one principal with the credential cache of another")
	}
}
