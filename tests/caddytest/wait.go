package caddytest

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds every wait. It is for a busy machine: what a test waits for comes
// within milliseconds.
const patience = time.Minute

// WaitFor waits until something holds that nothing announces. what completes the
// message "gave up waiting until".
func WaitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}

// LeakCheck fails the test if goroutines are left at its end that did not run when
// LeakCheck was called. Call it first, so that it looks last.
func LeakCheck(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		err := Leftovers(before,
			goleak.IgnoreTopFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
			// A file lock's goroutine notices within five seconds that the lock was released.
			goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
		if err != nil {
			t.Error(err)
		}
	})
}

// Leftovers is [goleak.Find] for a busy machine: it waits for twenty seconds rather
// than for one.
func Leftovers(options ...goleak.Option) (err error) {
	for range 20 {
		if err = goleak.Find(options...); err == nil {
			break
		}
	}
	return err
}
