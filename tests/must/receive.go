package must

import (
	"testing"
	"time"
)

// patience bounds the wait, for a busy machine.
const patience = time.Minute

// Receive waits for a value from a channel, or for its end. what completes the message
// "gave up waiting for".
func Receive[T any](t testing.TB, what string, from <-chan T) (value T) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case value = <-from:
	case <-timer.C:
		t.Fatalf("gave up waiting for %s", what)
	}
	return value
}
