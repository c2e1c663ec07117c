package kdc

import "time"

// clock tells the time. Tests inject theirs.
type clock interface {
	Now() time.Time
	// After sends the time on the channel once, when d has passed. stop frees
	// the timer before that.
	After(d time.Duration) (c <-chan time.Time, stop func())
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) After(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}
