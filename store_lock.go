package caddynegotiate

import (
	"context"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
)

// storePoll is how often, while another process has the lock, it is looked
// whether it has left what is wanted.
const storePoll = 25 * time.Millisecond

// Lock implements cache.Store. It waits until it has the lock, until whoever has
// it has left something new, or until ctx ends.
func (s *ticketStore) Lock(ctx context.Context, key cache.Key) (unlock func()) {
	entry, ok := s.seal(key)
	if !ok {
		return func() {}
	}
	if s.isDown() {
		countStore(opLock, storeSkipped)
		return func() {}
	}
	before, _ := s.read(ctx, entry.name)
	l, ok := s.lock(ctx, entry.name)
	if !ok {
		return func() {}
	}
	// What is read when the time is up is cancelled, and no fault of the storage.
	peek, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	tick := time.NewTicker(storePoll)
	defer tick.Stop()
	for {
		select {
		case <-l.done:
		case <-ctx.Done():
		case <-tick.C:
			if now, err := s.read(peek, entry.name); err != nil || string(now) == string(before) {
				continue
			}
		}
		return l.take()
	}
}

// storeLock is a lock that is being waited for. A storage may give it long after
// nobody wants it any more; it is given back then.
type storeLock struct {
	store  *ticketStore
	name   string
	cancel context.CancelFunc
	done   chan struct{} // closed when it was had, or cannot be

	mu        sync.Mutex
	held      bool
	abandoned bool
}

// lock begins to wait for a lock.
func (s *ticketStore) lock(ctx context.Context, name string) (*storeLock, bool) {
	if !s.enter() {
		countStore(opLock, storeFailed)
		return nil, false
	}
	l := &storeLock{store: s, name: name, done: make(chan struct{})}
	// It is ended by take, not by ctx: how it ended tells a lock that others hold
	// from a storage that fails.
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go l.acquire(ctx)
	return l, true
}

func (l *storeLock) acquire(ctx context.Context) {
	defer l.store.leave()
	defer close(l.done)
	if err := guarded(func() error { return l.store.storage.Lock(ctx, l.name) }); err != nil {
		if ctx.Err() == nil {
			countStore(opLock, storeFailed)
			l.store.failed(err)
		}
		return
	}
	l.mu.Lock()
	l.held = true
	late := l.abandoned
	l.mu.Unlock()
	if late {
		l.release()
	}
}

// take ends the waiting, and gives the function that gives the lock back, if it
// was had.
func (l *storeLock) take() (unlock func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel()
	if l.held {
		countStore(opLock, storeOK)
		return func() { go l.release() }
	}
	l.abandoned = true
	select {
	case <-l.done: // it failed, and is counted
	default:
		countStore(opLock, storeBusy)
	}
	return func() {}
}

func (l *storeLock) release() {
	ctx, cancel := context.WithTimeout(context.Background(), storePauseLongest)
	defer cancel()
	err := guarded(func() error { return l.store.storage.Unlock(ctx, l.name) })
	countCall(opUnlock, err)
	if err != nil {
		l.store.failed(err)
	}
}
