package ticketstore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
)

// pollInterval is how often the entry is read while another process has the lock: that
// process may have stored what is wanted.
const pollInterval = 25 * time.Millisecond

// Lock implements cache.Store. It waits until it has the lock, until the process that has
// it has stored something new, or until ctx ends.
func (s *Store) Lock(ctx context.Context, key cache.Key) (unlock func()) {
	e, ok := s.entry(key)
	if !ok {
		return func() {}
	}
	release, _ := s.lock(ctx, e.name)
	return func() { go release() }
}

// lock waits until it has the lock of an entry, until the entry has changed, or until ctx
// ends; changed reports the second. unlock is never nil; it waits for the storage.
func (b *backend) lock(ctx context.Context, name string) (unlock func(), changed bool) {
	unlock = func() {}
	if b.isDown() {
		b.counter(opLock, resultSkipped)
		return unlock, false
	}
	before, err := b.read(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || !b.enter() {
		b.counter(opLock, resultFailed)
		return unlock, false
	}
	// What ctx interrupts is canceled rather than late: no failure of the storage.
	waiting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	granted := make(chan struct{})
	go b.acquire(waiting, name, granted)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case _, ok := <-granted:
			if ok {
				b.counter(opLock, resultOK)
				unlock = func() { b.release(name) }
			}
			return unlock, false
		case <-waiting.Done():
		case <-tick.C:
			if now, err := b.read(waiting, name); err != nil || bytes.Equal(now, before) {
				continue
			}
			changed = true
		}
		b.counter(opLock, resultBusy)
		return unlock, changed
	}
}

// acquire takes the lock and sends to granted, or closes it if the storage fails. A lock
// that the storage grants after waiting has ended is released.
func (b *backend) acquire(waiting context.Context, name string, granted chan<- struct{}) {
	defer b.leave()
	if err := b.guard(func() error { return b.storage.Lock(waiting, name) }); err != nil {
		if waiting.Err() == nil {
			b.counter(opLock, resultFailed)
			b.failed(err)
			close(granted)
		}
		return
	}
	select {
	case granted <- struct{}{}:
	case <-waiting.Done():
		b.release(name)
	}
}

func (b *backend) release(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), maxPause)
	defer cancel()
	err := b.guard(func() error { return b.storage.Unlock(ctx, name) })
	b.count(opUnlock, err)
	if err != nil {
		b.failed(err)
	}
}
