package identitytest

import (
	"slices"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// Clock is a clock that is set by hand, and may be wrong.
type Clock struct {
	mu    sync.Mutex
	at    time.Time
	wrong time.Duration
}

// NewClock makes a clock that shows the full second before now.
func NewClock() *Clock { return &Clock{at: time.Now().Truncate(time.Second)} }

// Now is the time that the identities take it to be.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.Add(c.wrong)
}

// True is the time on all other machines.
func (c *Clock) True() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// Advance advances the time.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// Wrong sets Now off True.
func (c *Clock) Wrong(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = d
}

// Events are those that identities reported.
type Events struct {
	mu  sync.Mutex
	all []negotiate.Event
}

// Observe keeps an event.
func (e *Events) Observe(event negotiate.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

// All returns the events so far.
func (e *Events) All() []negotiate.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clip(e.all)
}

// Seen returns the events of a type.
func Seen[E negotiate.Event](e *Events) (found []E) {
	for _, event := range e.All() {
		if event, ok := event.(E); ok {
			found = append(found, event)
		}
	}
	return found
}
