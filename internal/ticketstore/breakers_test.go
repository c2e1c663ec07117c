package ticketstore

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestBreakers(t *testing.T) {
	storage := newFakeStorage()
	b, other := NewBreakers(storage, zap.NewNop()), NewBreakers(storage, zap.NewNop())
	if got := b.Load(t.Context(), testPrincipal); got != nil {
		t.Errorf("loaded %q", got)
	}
	b.Save(t.Context(), testPrincipal, []byte("state"))
	if got := other.Load(t.Context(), testPrincipal); string(got) != "state" {
		t.Errorf("loaded %q", got)
	}
	another := testPrincipal
	another.Realm = "OTHER.EXAMPLE"
	if got := b.Load(t.Context(), another); got != nil {
		t.Errorf("loaded %q of another principal", got)
	}
	if name, _ := storage.only(t); !strings.HasPrefix(name, "kerberos/breakers/") || strings.Contains(name, "svc-proxy") {
		t.Errorf("name %s", name)
	}
	other.Save(t.Context(), testPrincipal, nil)
	if len(storage.entries) != 0 {
		t.Errorf("%d entries are left", len(storage.entries))
	}
}

func TestBreakers_Lock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := newFakeStorage()
		first, second := NewBreakers(storage, zap.NewNop()), NewBreakers(storage, zap.NewNop())
		unlock, _ := first.Lock(t.Context(), testPrincipal)
		// Another waits until something is stored, or the lock is free.
		time.AfterFunc(time.Second, func() { first.Save(t.Context(), testPrincipal, []byte("refused")) })
		begin := time.Now()
		free, changed := second.Lock(t.Context(), testPrincipal)
		free()
		if !changed {
			t.Errorf("changed: %t", changed)
		}
		if took := time.Since(begin); took < time.Second || took > 1100*time.Millisecond {
			t.Errorf("waited %v", took)
		}
		time.AfterFunc(time.Second, unlock)
		begin = time.Now()
		free, changed = second.Lock(t.Context(), testPrincipal)
		free()
		if changed {
			t.Errorf("changed: %t", changed)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("waited %v", took)
		}
		if n := storage.locked(); n != 0 {
			t.Errorf("%d locks are left", n)
		}
	})
}

func TestBreakers_StorageFails(t *testing.T) {
	for name, fail := range map[string]func(*fakeStorage){
		"down":  func(s *fakeStorage) { s.err = errors.New("no route to the storage") },
		"hangs": func(s *fakeStorage) { s.hang = make(chan struct{}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zapcore.InfoLevel)
				storage := newFakeStorage()
				b := NewBreakers(storage, zap.New(core))
				unlock, _ := b.Lock(t.Context(), testPrincipal)
				fail(storage)
				for range 10 {
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
					begin := time.Now()
					free, _ := b.Lock(ctx, testPrincipal)
					if got := b.Load(ctx, testPrincipal); got != nil {
						t.Errorf("loaded %q", got)
					}
					b.Save(ctx, testPrincipal, []byte("state"))
					free()
					cancel()
					if took := time.Since(begin); took > time.Second {
						t.Errorf("a login was delayed by %v", took)
					}
					time.Sleep(maxPause)
				}
				begin := time.Now()
				unlock()
				if took := time.Since(begin); took > time.Second {
					t.Errorf("unlocking took %v", took)
				}
				if n := logs.Len(); n != 1 {
					t.Errorf("logged %d times: %v", n, logs.All())
				}
				if storage.hang != nil {
					close(storage.hang)
				}
			})
		})
	}
}
