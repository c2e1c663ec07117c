package negotiate

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// savesAt is a BreakerStore that notes when it is written to. A writing takes a second, as in a
// storage that hangs.
type savesAt struct {
	content []byte
	at      []time.Time
}

func (s *savesAt) Load(context.Context, messages.Principal) []byte { return s.content }
func (s *savesAt) Save(_ context.Context, _ messages.Principal, content []byte) {
	s.content, s.at = content, append(s.at, time.Now())
	time.Sleep(time.Second)
}

func (s *savesAt) Lock(context.Context, messages.Principal) (func(), bool) { return func() {}, false }

func TestKeptBreaker_WritesOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "svc-proxy"), Realm: "CORP.EXAMPLE"}
		keys, err := PasswordSecret("a password").read()
		if err != nil {
			t.Fatal(err)
		}
		ring := &keyring{name: p, proven: krb5core.NewAccount(p, keys, krb5core.NewClock(time.Now))}
		b, store := &breaker{now: time.Now}, new(savesAt)
		k := newKeptBreaker(func() BreakerStore { return store }, b, ring)
		for n := range 10 {
			begin := time.Now()
			end := k.begin(t.Context(), false)
			if took := time.Since(begin); took > keptWait {
				t.Errorf("a login waited %v for the storage", took)
			}
			b.mu.Lock()
			b.spent, b.refused = 1+n%2, time.Now()
			b.mu.Unlock()
			begin = time.Now()
			end()
			if took := time.Since(begin); took != 0 {
				t.Errorf("the end of a login waited %v for the storage", took)
			}
		}
		for range 1000 { // any client of the admin endpoint
			b.reset()
			k.flush()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for i := 1; i < len(store.at); i++ {
			if pause := store.at[i].Sub(store.at[i-1]); pause < time.Second {
				t.Errorf("two writings within %v", pause)
			}
		}
		if n := len(store.at); n < 10 || n > 12 || store.content != nil {
			t.Errorf("%d writings, the last %q", n, store.content)
		}
	})
}
