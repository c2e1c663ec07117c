package caddynegotiate

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestStoreLockIsWaitedForASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id, storage := testIdentity(t, testLongTerm), newShelf()
		first, second := testStore(storage, id, nil), testStore(storage, id, nil)
		unlock := first.Lock(t.Context(), testKey)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		second.Lock(ctx, testKey)()
		if took := time.Since(begin); took != time.Second {
			t.Errorf("waited %v", took)
		}
		unlock()
		synctest.Wait()
		if n := storage.locked(); n != 0 {
			t.Errorf("%d locks are left", n)
		}
		if second.isDown() {
			t.Error("a lock that somebody holds is no fault of the storage")
		}
	})
}

func TestStoreLockIsLeftWhenWhatItGuardsIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id, storage := testIdentity(t, testLongTerm), newShelf()
		first, second := testStore(storage, id, nil), testStore(storage, id, nil)
		first.Save(t.Context(), testKey, ticketOf(t, id, time.Hour)) // one that is to be replaced
		unlock := first.Lock(t.Context(), testKey)
		begin := time.Now()
		time.AfterFunc(200*time.Millisecond, func() { first.Save(t.Context(), testKey, ticketOf(t, id, time.Hour)) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		second.Lock(ctx, testKey)()
		if took := time.Since(begin); took < 200*time.Millisecond || took > 250*time.Millisecond {
			t.Errorf("waited %v for a ticket that came after 200ms", took)
		}
		unlock()
		synctest.Wait()
		if n := storage.locked(); n != 0 {
			t.Errorf("%d locks are left", n)
		}
	})
}

func TestStoreLockThatComesLateIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id, storage := testIdentity(t, testLongTerm), newShelf()
		s := testStore(storage, id, nil)
		storage.hang = make(chan struct{})
		l, ok := s.lock(t.Context(), "name")
		if !ok {
			t.Fatal("no lock was asked for")
		}
		l.take()() // before the storage gives it
		close(storage.hang)
		<-l.done
		synctest.Wait()
		if n := storage.locked(); n != 0 {
			t.Errorf("%d locks are left", n)
		}
	})
}
