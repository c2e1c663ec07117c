package faults

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// refusedCredentials is a judge for crowd that wants what a refused account gets.
func refusedCredentials(a answer, err error) error {
	if err == nil && (a.status != 502 || a.body != "502 credentials_refused") {
		err = errors.New(a.String())
	}
	return err
}

func TestWrongPasswordOfThreeSitesIsProvedThreeTimesAtMost(t *testing.T) {
	const requests = 10000
	for _, row := range []struct {
		name  string
		fault func() kdctest.Fault // of the KDC
		most  int
	}{
		{"salt and type stay", nil, 2},
		{"another salt each time", anotherSaltEachTime, 3},
		{"every third datagram is lost", func() kdctest.Fault { return kdctest.Every(3, kdctest.Lose()) }, 2},
		{"streams are not answered", func() kdctest.Fault { return kdctest.TCP(kdctest.Reset()) }, 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			requests := requests
			if row.name != "salt and type stay" {
				requests /= 20
			}
			r := newRig(t)
			r.level = "ERROR"
			r.realm.SetLockout(4) // a domain's usual bound is near
			if row.fault != nil {
				r.kdc.Use(row.fault())
			}
			file := r.write("password", []byte("a wrong password\n"))
			site := func(more string) string {
				return lines("kdc "+r.kdc.Addr(), "user "+principal, "password_file "+file, "spn "+service, more)
			}
			// What differs makes them ask by themselves, of one account.
			r.load(site("timeout 9s"), site("encryption_types aes256-cts-hmac-sha1-96"), site("encryption_types aes128-cts-hmac-sha1-96 aes256-cts-hmac-sha1-96"))
			judge := refusedCredentials
			if row.name == "streams are not answered" {
				// Nothing confirms what a datagram says: one waits and sees.
				judge = func(a answer, err error) error {
					if err == nil && a.status == 503 {
						return nil
					}
					return refusedCredentials(a, err)
				}
			}
			errs := crowd(t, 16, requests, func(i int) string { return "http://" + r.sites[i%3] + "/" }, judge)
			wantNoErrors(t, requests, errs)
			c := r.kdc.Counts()
			if c.ASReqPreAuth > row.most || c.ASReqPreAuth == 0 {
				t.Errorf("%d pre-authenticated AS-REQ, want %d at most", c.ASReqPreAuth, row.most)
			}
			t.Logf("%d requests from three sites: %d AS-REQ, %d of them pre-authenticated", requests, c.ASReq, c.ASReqPreAuth)

			// The account was not locked, and the right password in the file is taken up at once.
			r.kdc.ClearFaults()
			r.write("password", []byte(password+"\n"))
			if row.name == "streams are not answered" { // at once but for the pause of an unconfirmed refusal
				for !r.get("/").good() {
				}
				return
			}
			wantNoErrors(t, 3, crowd(t, 3, 3, func(i int) string { return "http://" + r.sites[i%3] + "/" }, letIn))
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

func TestUnlockedAccountWorksAgainWithinAMinute(t *testing.T) {
	for name, flags := range map[string]kdctest.Flags{
		"locked": kdctest.Locked, "disabled": kdctest.Disabled, "expired": kdctest.Expired, "password must change": kdctest.MustChange,
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.proxy.Set(kdctest.With(flags))
			id := l.identity(negotiate.PasswordSecret(password))
			s := l.settings()
			for range 50 { // requests go on all the time
				if _, err := l.grant(id, s, service); err == nil {
					t.Fatal("let in")
				}
				l.clock.Advance(time.Second)
			}
			c := l.kdc.Counts()
			if c.ASReq > 4 {
				t.Errorf("asked %d times in 50 s", c.ASReq)
			}
			l.proxy.Set(kdctest.Without(flags))
			l.clock.Advance(10*time.Second + time.Millisecond) // a minute after the first refusal
			if _, err := l.grant(id, s, service); err != nil {
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
func TestLockedAccountIsNotLockedAgainAndAgain(t *testing.T) {
	l := newLab(t)
	l.realm.SetLockout(2)
	id := l.identity(negotiate.PasswordSecret("a wrong password"))
	s := l.settings()
	for range 29 {
		if _, err := l.grant(id, s, service); err == nil {
			t.Fatal("let in")
		}
		l.proxy.Set(kdctest.Without(kdctest.Locked)) // as after the lockout's duration
		l.clock.Advance(time.Minute + time.Millisecond)
	}
	if n := l.kdc.Counts().ASReqPreAuth; n > 3 {
		t.Errorf("%d pre-authenticated AS-REQ in half an hour", n)
	}
}

func TestFlushClosesTheBreaker(t *testing.T) {
	l := newLab(t)
	l.proxy.Set(kdctest.With(kdctest.Disabled))
	id, s := l.identity(negotiate.PasswordSecret(password)), l.settings()
	if _, err := l.grant(id, s, service); err == nil || id.Refused() == nil {
		t.Fatalf("%v, and the breaker is closed", err)
	}
	l.proxy.Set(kdctest.Without(kdctest.Disabled))
	id.Flush()
	if _, err := l.grant(id, s, service); err != nil {
		t.Fatal(err)
	}
}
