package ticketstore

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestLock_Waits(t *testing.T) {
	for name, row := range map[string]struct{ stored, least, most time.Duration }{
		"to the end of the context":      {0, time.Second, time.Second},
		"until another ticket is stored": {200 * time.Millisecond, 200 * time.Millisecond, 250 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				id, storage := testIdentity(t, testLongTerm), newFakeStorage()
				first, second := testStore(storage, id, nil), testStore(storage, id, nil)
				save := func() { first.Save(t.Context(), testKey, ticketOf(t, id, time.Hour)) }
				save() // a ticket that is to be replaced
				unlock := first.Lock(t.Context(), testKey)
				if row.stored > 0 {
					time.AfterFunc(row.stored, save)
				}
				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				second.Lock(ctx, testKey)()
				if took := time.Since(begin); took < row.least || took > row.most {
					t.Errorf("waited %v", took)
				}
				unlock()
				synctest.Wait()
				if n := storage.locked(); n != 0 {
					t.Errorf("%d locks are left", n)
				}
				if second.isDown() {
					t.Error("a lock that another process holds is not a failure of the storage")
				}
			})
		})
	}
}

func TestLock_LateGrantIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id, storage := testIdentity(t, testLongTerm), newFakeStorage()
		s := testStore(storage, id, nil)
		storage.hang = make(chan struct{})
		granted := make(chan struct{})
		ctx, abandon := context.WithCancel(t.Context())
		s.enter()
		go s.acquire(ctx, "name", granted)
		synctest.Wait()
		abandon() // before the storage gives it
		close(storage.hang)
		synctest.Wait()
		if n := storage.locked(); n != 0 {
			t.Errorf("%d locks are left", n)
		}
	})
}
