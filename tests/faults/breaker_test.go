package faults

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestLockout_WrongPasswordAtThreeSites(t *testing.T) {
	for _, row := range []struct {
		name  string
		fault func() kdctest.Fault // of the KDC
		most  int

		requests    int
		unconfirmed bool
	}{
		{"salt and type stay", nil, 2, caddytest.Long(2000, 10000), false},
		{"another salt each time", anotherSaltEachTime, 3, 500, false},
		{"every third datagram is lost", func() kdctest.Fault { return kdctest.Every(3, kdctest.Lose()) }, 2, 500, false},
		{"streams are not answered", func() kdctest.Fault { return kdctest.TCP(kdctest.Reset()) }, 3, 500, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := newEnv(t)
			e.level = "ERROR"
			e.Realm.SetLockout(4) // a domain's usual bound is near
			if row.fault != nil {
				e.KDC.Use(row.fault())
			}
			file := e.Write("password", []byte("a wrong password\n"))
			site := func(more string) string {
				return caddytest.Lines("kdc "+e.KDC.Addr(), "user "+principal, "password_file "+file, "spn "+service, more)
			}
			// What differs makes them ask by themselves, of one account.
			e.load(site("timeout 9s"), site("encryption_types aes256-cts-hmac-sha1-96"), site("encryption_types aes128-cts-hmac-sha1-96 aes256-cts-hmac-sha1-96"))
			client := e.Client()
			getAll := func(n int, ok func(caddytest.Answer) bool) {
				t.Helper()
				caddytest.All(t, n, 16, func(i int) error {
					a, err := caddytest.Ask(client, caddytest.Request(t, http.MethodGet, "http://"+e.sites[i%3]+"/"))
					if err == nil && !ok(a) {
						err = errors.New(a.String())
					}
					return err
				})
			}
			getAll(row.requests, func(a caddytest.Answer) bool {
				// If nothing confirms what a datagram says, Caddy waits.
				return a.IsError(502, "credentials_refused") || row.unconfirmed && a.Status == 503
			})
			c := e.KDC.Counts()
			if c.ASReqPreAuth > row.most || c.ASReqPreAuth == 0 {
				t.Errorf("%d pre-authenticated AS-REQ, want %d at most", c.ASReqPreAuth, row.most)
			}
			t.Logf("%d requests from three sites: %d AS-REQ, %d of them pre-authenticated", row.requests, c.ASReq, c.ASReqPreAuth)

			// The account was not locked, and the right password in the file is taken up at once.
			e.KDC.ClearFaults()
			e.Write("password", []byte(password+"\n"))
			if row.unconfirmed { // at once but for the pause after an unconfirmed refusal
				caddytest.WaitFor(t, "the new password is in use", func() bool { return isServed(e.Get("/")) })
				return
			}
			getAll(3, isServed)
		})
	}
}

// anotherSaltEachTime has the KDC name another salt in each answer.
func anotherSaltEachTime() kdctest.Fault {
	var mu sync.Mutex
	n := 0
	return func(next kdctest.Handler) kdctest.Handler {
		return func(q *kdctest.Question) kdctest.Answer {
			mu.Lock()
			n++
			salt := fmt.Sprintf("salt %d", n)
			mu.Unlock()
			return kdctest.Hint(messages.ETypeInfo2Entry{EType: enctype.AES256_CTS_HMAC_SHA1_96, Salt: salt, HasSalt: true})(next)(q)
		}
	}
}

func TestLockout_UnlockedWithinAMinute(t *testing.T) {
	for name, flags := range map[string]kdctest.Flags{
		"locked": kdctest.Locked, "disabled": kdctest.Disabled, "expired": kdctest.Expired, "password must change": kdctest.MustChange,
	} {
		t.Run(name, func(t *testing.T) {
			e := newIdentityEnv(t)
			e.Proxy.Set(kdctest.With(flags))
			id := e.Identity(negotiate.PasswordSecret(password))
			s := e.settings()
			for range 50 { // requests never stop
				if _, err := e.grant(id, s, service); err == nil {
					t.Fatal("authenticated")
				}
				e.Clock.Advance(time.Second)
			}
			c := e.KDC.Counts()
			if c.ASReq > 4 {
				t.Errorf("asked %d times in 50 s", c.ASReq)
			}
			e.Proxy.Set(kdctest.Without(flags))
			e.Clock.Advance(10*time.Second + time.Millisecond) // a minute after the first refusal
			if _, err := e.grant(id, s, service); err != nil {
				t.Fatal(err)
			}
			if id.Refused() != nil {
				t.Error("the breaker is still open")
			}
		})
	}
}

// A KDC that locks after two must not have the account locked again by each try
// after a minute: a key that was refused three times in all rests for half an hour.
func TestLockout_NotLockedAgain(t *testing.T) {
	e := newIdentityEnv(t)
	e.Realm.SetLockout(2)
	id := e.Identity(negotiate.PasswordSecret("a wrong password"))
	s := e.settings()
	for range 29 {
		if _, err := e.grant(id, s, service); err == nil {
			t.Fatal("authenticated")
		}
		e.Proxy.Set(kdctest.Without(kdctest.Locked)) // as after the lockout's duration
		e.Clock.Advance(time.Minute + time.Millisecond)
	}
	if n := e.KDC.Counts().ASReqPreAuth; n > 3 {
		t.Errorf("%d pre-authenticated AS-REQ in half an hour", n)
	}
}
