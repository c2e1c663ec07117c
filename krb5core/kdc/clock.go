package kdc

import "time"

// Clock is the time, injected for tests.
type Clock interface {
	Now() time.Time
	// After sends the time on the channel once, when d has passed. stop frees
	// the timer before that.
	After(d time.Duration) (c <-chan time.Time, stop func())
}

// systemClock is the clock of the machine.
type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) After(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}
