package negotiate

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/gmsa"
)

// Readings in the background come at the query interval with a delay that differs from process to
// process, and a minute later if one failed; none comes after the identity was closed.
func TestManagedPassword_Schedule(t *testing.T) {
	var pauses []time.Duration
	m := newManagedPassword(&IdentityConfig{Now: time.Now, Observe: func(Event) {}}, krb5core.NewClock(nil), func() {})
	m.after = func(d time.Duration, _ func()) *time.Timer {
		pauses = append(pauses, d)
		return time.NewTimer(time.Hour)
	}
	m.jitter = func() time.Duration { return 2 * time.Minute }
	take := func(query time.Duration) {
		m.mu.Lock()
		defer m.mu.Unlock()
		r := &gmsa.Reading{Password: &gmsa.Password{Current: []byte("a\x00"), Query: query}}
		m.take(r)
		m.schedule(m.pauseAfter(r, nil))
	}
	take(30 * 24 * time.Hour)
	take(0)
	m.mu.Lock()
	m.schedule(m.pauseAfter(nil, errors.New("no domain controller answers")))
	m.mu.Unlock()
	m.close()
	take(time.Hour)
	want := []time.Duration{30*24*time.Hour + 2*time.Minute, 3 * time.Minute, time.Minute + 24*time.Second}
	if len(pauses) != len(want) || pauses[0] != want[0] || pauses[1] != want[1] || pauses[2] != want[2] {
		t.Errorf("%v, want %v", pauses, want)
	}
	for range 100 {
		if d := newManagedPassword(&IdentityConfig{}, nil, nil).jitter(); d < 0 || d >= readJitter {
			t.Fatalf("jitter %s", d)
		}
	}
	if changed, err := m.reload(context.Background()); changed || err != nil {
		t.Errorf("%t, %v", changed, err)
	}
}
