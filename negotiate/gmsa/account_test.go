package gmsa

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Readings in the background come at the query interval with a delay that differs from process to
// process, and a minute later if one failed; none comes after the account was closed.
func TestAccount_Schedule(t *testing.T) {
	var pauses []time.Duration
	a := NewAccount(AccountConfig{
		Principal: messages.Principal{Realm: "CORP.EXAMPLE"}, Clock: krb5core.NewClock(nil), Now: time.Now, Timeout: time.Minute,
		OnRead: func(*Reading, bool) {}, OnUnread: func(error) {},
		jitter: func(below time.Duration) time.Duration { return below / 2 },
		after: func(d time.Duration, _ func()) *time.Timer {
			pauses = append(pauses, d)
			return time.NewTimer(time.Hour)
		},
	})
	read := func(query time.Duration, err error) {
		_, _ = a.readPassword(t.Context(), func(context.Context) (*Reading, error) {
			return &Reading{Password: &Password{Current: []byte("a\x00"), Query: query}}, err
		})
	}
	read(30*24*time.Hour, nil)
	read(0, nil)
	read(0, errors.New("no domain controller answers"))
	a.Close()
	read(time.Hour, nil)
	want := []time.Duration{30*24*time.Hour + readJitter/2, readPause + readJitter/2, readPause + readPause/2}
	if !slices.Equal(pauses, want) {
		t.Errorf("%v, want %v", pauses, want)
	}
	different := make(map[time.Duration]bool)
	for range 100 {
		d := NewAccount(AccountConfig{}).cfg.jitter(readJitter)
		if different[d] = true; d < 0 || d >= readJitter {
			t.Fatalf("jitter %s", d)
		}
	}
	if len(different) < 50 {
		t.Errorf("%d different delays", len(different))
	}
}
