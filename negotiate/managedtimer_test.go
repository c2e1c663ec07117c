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
	m.jitter = func(below time.Duration) time.Duration { return below / 2 }
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
	want := []time.Duration{30*24*time.Hour + readJitter/2, readPause + readJitter/2, readPause + readPause/2}
	if len(pauses) != len(want) || pauses[0] != want[0] || pauses[1] != want[1] || pauses[2] != want[2] {
		t.Errorf("%v, want %v", pauses, want)
	}
	different := make(map[time.Duration]bool)
	for range 100 {
		d := newManagedPassword(&IdentityConfig{}, nil, nil).jitter(readJitter)
		if different[d] = true; d < 0 || d >= readJitter {
			t.Fatalf("jitter %s", d)
		}
	}
	if len(different) < 50 {
		t.Errorf("%d different delays", len(different))
	}
	if changed, err := m.reload(context.Background()); changed || err != nil {
		t.Errorf("%t, %v", changed, err)
	}
}
