package ticketstore

import (
	"bytes"
	"context"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
)

// pollInterval is how often the entry is read while another process has the lock: that
// process may have stored what is wanted.
const pollInterval = 25 * time.Millisecond

// Lock implements cache.Store. It waits until it has the lock, until the process that has
// it has stored something new, or until ctx ends.
func (s *Store) Lock(ctx context.Context, key cache.Key) (unlock func()) {
	unlock = func() {}
	e, ok := s.entry(key)
	if !ok {
		return unlock
	}
	if s.isDown() {
		s.cfg.Count(opLock, resultSkipped)
		return unlock
	}
	before, _ := s.read(ctx, e.name)
	if !s.enter() {
		s.cfg.Count(opLock, resultFailed)
		return unlock
	}
	// What ctx interrupts is canceled rather than late: no failure of the storage.
	waiting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	granted := make(chan struct{})
	go s.acquire(waiting, e.name, granted)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case _, ok := <-granted:
			if ok {
				s.cfg.Count(opLock, resultOK)
				unlock = func() { go s.release(e.name) }
			}
			return unlock
		case <-waiting.Done():
		case <-tick.C:
			if now, err := s.read(waiting, e.name); err != nil || bytes.Equal(now, before) {
				continue
			}
		}
		s.cfg.Count(opLock, resultBusy)
		return unlock
	}
}

// acquire takes the lock and sends to granted, or closes it if the storage fails. A lock
// that the storage grants after waiting has ended is released.
func (s *Store) acquire(waiting context.Context, name string, granted chan<- struct{}) {
	defer s.leave()
	if err := s.guard(func() error { return s.cfg.Storage.Lock(waiting, name) }); err != nil {
		if waiting.Err() == nil {
			s.cfg.Count(opLock, resultFailed)
			s.failed(err)
			close(granted)
		}
		return
	}
	select {
	case granted <- struct{}{}:
	case <-waiting.Done():
		s.release(name)
	}
}

func (s *Store) release(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), maxPause)
	defer cancel()
	err := s.guard(func() error { return s.cfg.Storage.Unlock(ctx, name) })
	s.count(opUnlock, err)
	if err != nil {
		s.failed(err)
	}
}
