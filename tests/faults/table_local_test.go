package faults

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

var localFaults = []fault{
	{"our clock stepped an hour ahead, and back", "200 at each step, by one repeat of the token where the clocks differ; two logins at most", func(t *testing.T) {
		e := newIdentityEnv(t)
		acceptor := e.acceptor()
		id, s := e.Identity(negotiate.PasswordSecret(password)), e.settings()
		for _, wrong := range []time.Duration{0, time.Hour, 0, -time.Hour, 0, time.Hour, -time.Hour, 0} {
			e.Clock.Wrong(wrong)
			for range 3 {
				if err := e.authenticate(acceptor, id, s); err != nil {
					t.Fatalf("%v off: %v", wrong, err)
				}
				e.Clock.Advance(time.Second)
			}
		}
		if c := e.KDC.Counts(); c.ASRep > 2 {
			t.Errorf("%d logins", c.ASRep)
		}
	}},
	{"keytab truncated", "200; one warning; the old key stays in use", func(t *testing.T) {
		e := newIdentityEnv(t)
		file := e.keytab()
		id, s := e.Identity(negotiate.KeytabSecret(file, e.Principal())), e.settings()
		e.wantNewGrant(id, s)
		content := caddytest.ReadFile(t, file)
		caddytest.ReplaceFile(t, file, []byte(content[:len(content)/2]))
		for range 5 {
			e.wantNewGrant(id, s)
		}
		if n := len(identitytest.Seen[negotiate.SecretBroken](e.Events)); n != 1 {
			t.Errorf("%d warnings", n)
		}
	}},
	{"keytab rotated, a KDC lags behind", "200 by the old key, then by the new one", func(t *testing.T) {
		e := newIdentityEnv(t)
		file := e.keytab()
		id, s := e.Identity(negotiate.KeytabSecret(file, e.Principal())), e.settings()
		e.wantNewGrant(id, s)
		// The new key is in the file, and not yet at the KDC.
		fresh := kdctest.NewRealm(realmName)
		caddytest.ReplaceFile(t, file, caddytest.KeysOf(t, fresh, fresh.AddUser(account, "the next password", kdctest.KVNO(2))))
		e.wantNewGrant(id, s)
		if n := len(identitytest.Seen[negotiate.SecretStale](e.Events)); n != 1 {
			t.Errorf("%d notes of a key that is refused", n)
		}
		e.Proxy.ChangePassword("the next password", false)
		e.wantNewGrant(id, s)
		e.KDC.ResetCounts()
		e.wantNewGrant(id, s)
		if c := e.KDC.Counts(); c.ASReqPreAuth != 1 || c.Errors[messages.KDC_ERR_PREAUTH_FAILED] != 0 {
			t.Errorf("the new key is in use, and still %d proofs, %v", c.ASReqPreAuth, c.Errors)
		}
	}},
	{"password file emptied, then rewritten", "200; one warning", func(t *testing.T) {
		e := newIdentityEnv(t)
		file := caddytest.WriteFile(t, filepath.Join(t.TempDir(), "password"), []byte(password))
		id, s := e.Identity(negotiate.PasswordFileSecret(file)), e.settings()
		e.wantNewGrant(id, s)
		caddytest.ReplaceFile(t, file, nil)
		e.wantNewGrant(id, s)
		e.wantNewGrant(id, s)
		if n := len(identitytest.Seen[negotiate.SecretBroken](e.Events)); n != 1 {
			t.Errorf("%d warnings", n)
		}
		e.Proxy.ChangePassword("the next password", false)
		caddytest.ReplaceFile(t, file, []byte("the next password\n"))
		e.wantNewGrant(id, s)
	}},
}
