package delegation

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// needAccount admits users whose account is known.
func needAccount(cred *messages.Credential) error {
	if cred.Account == nil {
		return negotiate.ErrAccountUnknown
	}
	return nil
}

// keytabWith writes a keytab of a principal with only these types of keys.
func keytabWith(t *testing.T, path string, realm *kdctest.Realm, p *kdctest.Principal, types ...enctype.ID) {
	t.Helper()
	file := must.OK(keytab.Parse(caddytest.KeysOf(t, realm, p)))(t)
	file.Entries = slices.DeleteFunc(file.Entries, func(e keytab.Entry) bool { return !slices.Contains(types, e.Key.EType()) })
	must.Do(t, os.WriteFile(path, must.OK(file.Marshal())(t), 0o600))
}

// A key that opens the users' tickets and comes later is used, without a flush, for tickets that are held as well.
func TestAccount_KeyAddedLater(t *testing.T) {
	d := identitytest.New(t, identitytest.Config{Password: "secret", Proxy: trusted()})
	d.Realm.AddUser("alice", "x")
	path := filepath.Join(t.TempDir(), "keytab")
	keytabWith(t, path, d.Realm, d.Proxy, enctype.AES128_CTS_HMAC_SHA1_96)
	settings := d.Settings(kdc.Config{HedgeDelay: time.Minute, ServerTimeout: time.Minute}, 30*time.Second)
	initiator := d.Identity(negotiate.KeytabSecret(path, d.Principal())).Initiator(settings)
	a := &identityEnv{Domain: d, initiator: initiator}
	target := a.target("alice", webSPN)
	admitAll := func(*messages.Credential) error { return nil }
	must.OK(initiator.GrantUser(t.Context(), target, admitAll))(t) // by a site without rules
	for range 2 {
		if _, err := initiator.GrantUser(t.Context(), target, needAccount); !errors.Is(err, negotiate.ErrAccountUnknown) {
			t.Fatalf("without a key that opens the ticket: %v", err)
		}
	}
	keytabWith(t, path, d.Realm, d.Proxy, enctype.AES128_CTS_HMAC_SHA1_96, enctype.AES256_CTS_HMAC_SHA1_96)
	must.Do(t, os.Chtimes(path, time.Now(), time.Now().Add(time.Hour)))
	d.Clock.Advance(time.Minute)
	for range 2 {
		must.OK(initiator.GrantUser(t.Context(), target, needAccount))(t)
	}
	// The second showed that no key opens it.
	if n := d.KDC.Counts(); n.S4U2Self != 3 {
		t.Errorf("%d users' tickets, want 3", n.S4U2Self)
	}
}

// A process that has tickets, but has not logged in, has not learnt what the password is salted with.
func TestAccount_SaltOfPassword(t *testing.T) {
	d := identitytest.New(t, identitytest.Config{Password: "secret", Proxy: append(trusted(), kdctest.Salt("CORP.EXAMPLEformer-name"))})
	for _, name := range []string{"alice", "bob"} {
		d.Realm.AddUser(name, "x")
	}
	settings := d.Settings(kdc.Config{HedgeDelay: time.Minute, ServerTimeout: time.Minute}, 30*time.Second)
	for i, name := range []string{"alice", "bob"} {
		initiator := d.Identity(negotiate.PasswordSecret("secret")).Initiator(settings)
		a := &identityEnv{Domain: d, initiator: initiator}
		must.OK(initiator.GrantUser(t.Context(), a.target(name, webSPN), needAccount))(t)
		if n := d.KDC.Counts().ASRep; n != i+1 {
			t.Errorf("%d logins, want %d", n, i+1)
		}
	}
}

// Where no key opens the user's ticket, deny_users cannot be held against the account.
func TestDenyUsers_NoKeyOpens(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	keytabWith(t, e.Keytab, e.Realm, e.Proxy, enctype.AES128_CTS_HMAC_SHA1_96)
	e.run("deny_users bob")
	e.getAs("alice").WantError(t, http.StatusForbidden, "user_denied", "")
	if log := e.Log.String(); !strings.Contains(log, "give the account's keytab with this encryption type") || !strings.Contains(log, "aes256-cts-hmac-sha1-96") {
		t.Errorf("no remedy in the log:\n%s", log)
	}
	e.run("allow_users alice")
	e.getAs("alice").WantUser(t, "alice@"+corpRealm)
}

// A machine's account is found by a name without the dollar sign, and denied by the name that it has.
func TestDenyUsers_AccountInPAC(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.Realm.IssuePACs()
	e.Realm.RepeatNames()
	e.Realm.AddUser("pc1$", "x", kdctest.Alias("pc1"))
	e.run("deny_users *$")
	for _, name := range []string{"pc1", "PC1", "pc1$", `CORP.EXAMPLE\Pc1`} {
		e.getAs(name).WantError(t, http.StatusForbidden, "user_denied", "")
	}
	e.getAs("alice").WantUser(t, "alice@"+corpRealm)
}

// A site without rules has gotten the ticket; it is not another site's excuse.
func TestDenyUsers_TicketOfAnotherSite(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.Realm.IssuePACs()
	e.Realm.RepeatNames()
	e.Realm.AddUser("pc1$", "x", kdctest.Alias("pc1"))
	proxy := func(more ...string) string {
		return caddytest.Block("reverse_proxy "+e.Upstream.Addr(), e.transport(append([]string{"spn " + webSPN, byHeader}, more...)...))
	}
	load(&e.Caddy, "", caddytest.Block("handle /open", proxy()), caddytest.Block("handle", proxy("deny_users *$")))
	e.Get("/open", asUser("pc1")).WantUser(t, "pc1@"+corpRealm)
	e.getAs("pc1").WantError(t, http.StatusForbidden, "user_denied", "")
	e.Get("/open", asUser("pc1")).WantUser(t, "pc1@"+corpRealm)
}

func TestDenyUsers_CCache(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	owner := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, caddytest.Account), Realm: corpRealm}
	file := ccache.CCache{DefaultPrincipal: owner}
	path := e.Write("ccache", must.OK(file.Marshal())(t))
	for rules, want := range map[string]string{"deny_users bob": "allow_users", "allow_users alice": ""} {
		err := caddytest.TryLoad(t, config(&e.Caddy, "", caddytest.Block("reverse_proxy "+e.Upstream.Addr(),
			caddytest.Block("transport negotiate", "kdc "+e.KDC.Addr(), "ccache "+path, "spn "+webSPN, byHeader, rules))))
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), "deny_users") || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", rules, err)
		}
	}
}
