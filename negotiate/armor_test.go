package negotiate_test

import (
	"errors"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// The proofs of an armor account count together, however many identities use it.
func TestArmor_ProofsOfAllIdentities(t *testing.T) {
	w := newWorld(t, byPassword("right"))
	machine := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "machine"), Realm: realmName}
	w.Realm.AddUser("machine", "right", kdctest.KVNO(2))
	keytabOf := func(password string) []byte {
		elsewhere := kdctest.NewRealm(realmName)
		return must.OK(elsewhere.Keytab(elsewhere.AddUser("machine", password, kdctest.KVNO(2))))(t)
	}
	path := w.write("armor.keytab", keytabOf("wrong"))
	finder := identitytest.Servers(t, w.KDC.Addr())
	login := func(account string) error {
		sender := must.OK(kdc.NewSender(kdc.Config{Finder: finder}))(t)
		client := must.OK(krb5core.NewClient(krb5core.Config{
			Sender: sender, Finder: finder, Armor: negotiate.KeytabArmor(path, machine), // one for each block of the configuration
		}))(t)
		if account != identitytest.Account {
			w.Realm.AddUser(account, "right")
			p := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, account), Realm: realmName}
			w.id = must.OK(negotiate.NewIdentity(negotiate.IdentityConfig{
				Key: account, Principal: p, Secret: negotiate.PasswordSecret("right"), Tickets: w.Tickets, Now: w.Clock.Now,
			}))(t)
		}
		_, err := w.id.Initiator(negotiate.NewSettings(account, client)).Login(t.Context())
		return err
	}
	proofs := func() int { return w.KDC.Counts().Clients["machine@"+realmName].ASReqPreAuth }
	ours := w.id
	for _, account := range []string{identitytest.Account, "second", "third", "fourth"} {
		err := login(account)
		e, ok := errors.AsType[*krb5core.Error](err)
		if !ok || e.Op != krb5core.OpArmor || e.Code != messages.KDC_ERR_PREAUTH_FAILED || w.id.Refused() == nil {
			t.Fatalf("%s: %v", account, err)
		}
	}
	if n := proofs(); n != 2 { // over UDP, and over TCP
		t.Fatalf("the machine's key was proved %d times by four identities", n)
	}

	// A flush lets it be tried again, for all of them.
	w.id = ours
	w.id.Flush()
	if err := login(identitytest.Account); err == nil {
		t.Fatal("logged in")
	}
	if n := proofs(); n != 4 {
		t.Errorf("%d proofs after a flush, want 4", n)
	}
	// So does another file; a login that succeeds leaves nothing.
	w.write("armor.keytab", keytabOf("right"))
	must.Do(t, login("fifth"))
	must.Do(t, login("sixth"))
}
