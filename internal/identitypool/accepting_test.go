package identitypool

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// A KDC that says no is asked again after a pause that doubles, however many tokens come.
func TestAccepting_PauseAfterFailure(t *testing.T) {
	k, p := startKDC(t), New()
	r := open(t, p, "", config.Credentials{User: "nobody@CORP.EXAMPLE", Password: "x", KDC: []string{k.Addr()}, UseTCP: true})
	now := time.Now()
	keys := &r.identity.accepting
	keys.now = func() time.Time { return now }
	asked := 0
	for _, row := range []struct {
		after time.Duration
		asks  bool
	}{
		{0, true},
		{0, false},
		{999 * time.Millisecond, false},
		{time.Millisecond, true},
		{1999 * time.Millisecond, false},
		{time.Millisecond, true},
		{4 * time.Second, true},
		{8 * time.Second, true},
		{14 * time.Second, false},
		{time.Second, true},
		{14 * time.Second, false},
		{time.Second, true},
		{-time.Hour, true}, // a clock that is set back does not stop it
	} {
		now = now.Add(row.after)
		if err := keys.load(t.Context(), r, false); err == nil {
			t.Fatal("an account that does not exist has keys")
		}
		n := k.Counts().ASReq
		if (n > asked) != row.asks {
			t.Errorf("after %s: asked %t, want %t", row.after, n > asked, row.asks)
		}
		asked = n
	}
}

// A ticket that does not open has the KDC asked for the salt again, once a minute.
func TestAccepting_AskedAgain(t *testing.T) {
	k, p := startKDC(t), New()
	r := open(t, p, "", account(password, k.Addr()))
	now := time.Now()
	keys := &r.identity.accepting
	keys.now = func() time.Time { return now }
	must.Do(t, keys.load(t.Context(), r, false))
	asked := k.Counts().ASReq
	for _, row := range []struct {
		after time.Duration
		asks  bool
	}{{0, false}, {59 * time.Second, false}, {time.Second, true}, {0, false}, {time.Minute, true}} {
		now = now.Add(row.after)
		if err := keys.load(t.Context(), r, true); !errors.Is(err, errNoNewKey) {
			t.Fatalf("the same keys: %v", err)
		}
		n := k.Counts().ASReq
		if (n > asked) != row.asks {
			t.Errorf("after %s: asked %t, want %t", row.after, n > asked, row.asks)
		}
		asked = n
	}
	own := must.OK(messages.ParsePrincipal("svc-proxy@CORP.EXAMPLE", ""))(t)
	if n := len(keys.ring.KeysFor(own, now)); n == 0 {
		t.Error("no keys")
	}
	r.identity.Flush()
	if n := len(keys.ring.KeysFor(own, now)); n == 0 {
		t.Error("a flush drops keys in use")
	}
}

// Tokens that the keys open do not wait while the KDC is asked because of one that they do not open.
func TestAccepting_HeldKeysDoNotWait(t *testing.T) {
	k, p := startKDC(t), New()
	r := open(t, p, "", account(password, k.Addr()))
	now := time.Now()
	keys := &r.identity.accepting
	keys.now = func() time.Time { return now }
	must.Do(t, keys.load(t.Context(), r, false))
	now = now.Add(time.Hour)
	keys.loading <- struct{}{} // another looks for keys
	must.Do(t, keys.load(t.Context(), r, false))
}

// Who waits for another's request to the KDC can go away.
func TestAccepting_WaitingEndsWithTheRequest(t *testing.T) {
	p := New()
	r := open(t, p, "", account(password, "127.0.0.1:1"))
	keys := &r.identity.accepting
	keys.loading <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := keys.load(ctx, r, false); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// The account is known when its keys are: the first tokens come at once, and those that do not wait
// for the keys need them.
func TestAccepting_KeysBeforeAccount(t *testing.T) {
	k := startKDC(t)
	for range 30 {
		r := open(t, New(), "", account(password, k.Addr()))
		keys := &r.identity.accepting
		seen := make(chan int, 1)
		go func() {
			for keys.own.Load() == nil {
				if t.Context().Err() != nil {
					return
				}
				runtime.Gosched()
			}
			seen <- len(serviceKeys{keys, true}.KeysFor(*keys.own.Load()))
		}()
		must.Do(t, keys.load(t.Context(), r, false))
		if <-seen == 0 {
			t.Fatal("the account has no keys")
		}
	}
}
