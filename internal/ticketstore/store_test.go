package ticketstore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unique"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// fakeStorage is a storage in memory that fails or hangs on demand.
type fakeStorage struct {
	certmagic.Storage // what is not used here is nil

	mu      sync.Mutex
	entries map[string][]byte
	locks   map[string]chan struct{}
	err     error         // of every call
	hang    chan struct{} // calls wait for it, whatever their context says
	calls   int
}

func newFakeStorage() *fakeStorage {
	return &fakeStorage{entries: make(map[string][]byte), locks: make(map[string]chan struct{})}
}

func (s *fakeStorage) fault() error {
	s.mu.Lock()
	s.calls++
	err, hang := s.err, s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return err
}

// do calls f unless the storage fails.
func (s *fakeStorage) do(f func() error) error {
	if err := s.fault(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return f()
}

func (s *fakeStorage) Load(_ context.Context, key string) (b []byte, err error) {
	err = s.do(func() error {
		stored, ok := s.entries[key]
		if b = bytes.Clone(stored); !ok {
			return fs.ErrNotExist
		}
		return nil
	})
	return b, err
}

func (s *fakeStorage) Store(_ context.Context, key string, value []byte) error {
	return s.do(func() error { s.entries[key] = bytes.Clone(value); return nil })
}

func (s *fakeStorage) Delete(_ context.Context, key string) error {
	return s.do(func() error { delete(s.entries, key); return nil })
}

func (s *fakeStorage) Lock(ctx context.Context, name string) error {
	if err := s.fault(); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		held, taken := s.locks[name]
		if !taken {
			s.locks[name] = make(chan struct{})
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *fakeStorage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := s.locks[name]
	if !ok {
		return fs.ErrNotExist // as Caddy's file storage
	}
	close(held)
	delete(s.locks, name)
	return nil
}

func (s *fakeStorage) locked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.locks)
}

// only is the one entry.
func (s *fakeStorage) only(t *testing.T) (name string, content []byte) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.entries) != 1 {
		t.Fatalf("%d entries, want one", len(s.entries))
	}
	for name, content = range s.entries {
	}
	return name, content
}

var (
	testPrincipal = messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "svc-proxy"), Realm: "CORP.EXAMPLE"}
	testETypes    = []enctype.ID{enctype.AES256_CTS_HMAC_SHA1_96}
	testKey       = cache.Key{Identity: "svc-proxy", SPN: "HTTP/web.corp.example", Terms: termsOf(false, enctype.AES256_CTS_HMAC_SHA1_96)}
	testLongTerm  = bytes.Repeat([]byte("long-term key   "), 2)
	testSession   = bytes.Repeat([]byte("session key     "), 2)
	testTicket    = bytes.Repeat([]byte("a ticket's bytes."), 60)
)

// termsOf are the terms of tickets that are requested with these types.
func termsOf(armored bool, types ...enctype.ID) unique.Handle[cache.Terms] {
	terms := cache.Terms{Armored: armored}
	for i, id := range types {
		terms.ETypes[i] = int32(id)
	}
	return unique.Make(terms)
}

// testIdentity is an identity with a keytab that holds the given AES-256 key.
func testIdentity(t *testing.T, longTerm []byte) *negotiate.Identity {
	t.Helper()
	key, err := enctype.NewKey(testETypes[0], longTerm)
	if err != nil {
		t.Fatal(err)
	}
	file := keytab.Keytab{Entries: []keytab.Entry{{Principal: testPrincipal, Timestamp: time.Unix(1, 0), KVNO: 3, Key: key}}}
	content, err := file.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keytab")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return identityWith(t, negotiate.KeytabSecret(path, testPrincipal))
}

func identityWith(t *testing.T, secret negotiate.Secret) *negotiate.Identity {
	t.Helper()
	id, err := negotiate.NewIdentity(negotiate.IdentityConfig{Key: testKey.Identity, Principal: testPrincipal, Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// testStore is one process's store on a storage.
func testStore(storage certmagic.Storage, id *negotiate.Identity, key []byte) *Store {
	return New(Config{
		Storage: storage, Key: key, Logger: zap.NewNop(), Count: counts.add,
		Find: func(key cache.Key) *negotiate.Identity {
			if id.Owns(key) {
				return id
			}
			return nil
		},
	})
}

// counter counts operations by their results.
type counter struct {
	mu sync.Mutex
	n  map[[2]string]int
}

// counts are those of all stores of testStore.
var counts = counter{n: make(map[[2]string]int)}

func (c *counter) add(operation, result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[[2]string{operation, result}]++
}

func (c *counter) of(operation, result string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[[2]string{operation, result}]
}

func ticketOf(t *testing.T, id *negotiate.Identity, life time.Duration) *negotiate.Ticket {
	t.Helper()
	key, err := enctype.NewKey(testETypes[0], testSession)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	b, err := negotiate.StoredTicket(&messages.Credential{
		Client:   testPrincipal,
		Service:  messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_INST, "HTTP", "web.corp.example"), Realm: "CORP.EXAMPLE"},
		Key:      key,
		AuthTime: now, EndTime: now.Add(life),
		Ticket: testTicket,
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := id.Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func TestStore_PausesAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id, storage := testIdentity(t, testLongTerm), newFakeStorage()
		s := testStore(storage, id, nil)
		s.Save(t.Context(), testKey, ticketOf(t, id, 10*time.Hour))
		storage.err = errors.New("no route to the storage")
		storage.calls = 0
		for range 100 {
			if _, ok := s.Load(t.Context(), testKey); ok {
				t.Fatal("loaded from a storage that is down")
			}
			s.Lock(t.Context(), testKey)()
		}
		if storage.calls != 1 {
			t.Fatalf("%d calls while it is down, want one", storage.calls)
		}
		for range 20 { // longer than the longest pause
			time.Sleep(10 * time.Second)
			s.Load(t.Context(), testKey)
		}
		if storage.calls < 5 || storage.calls > 15 {
			t.Fatalf("%d calls in 200 s, want a try now and then", storage.calls)
		}
		storage.err = nil
		time.Sleep(maxPause)
		if _, ok := s.Load(t.Context(), testKey); !ok {
			t.Fatal("not taken up again when it was back")
		}
	})
}

func TestStore_HangingStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id, storage := testIdentity(t, testLongTerm), newFakeStorage()
		s := testStore(storage, id, nil)
		storage.hang = make(chan struct{})
		begin := time.Now()
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			s.Load(ctx, testKey)
			s.Lock(ctx, testKey)()
			cancel()
			time.Sleep(maxPause)
		}
		if took := time.Since(begin) - 200*maxPause; took > maxCalls*time.Second {
			t.Errorf("200 fetches waited %v in all, want %d s at most: calls that hang are bounded", took, maxCalls)
		}
		if len(s.calls) != maxCalls {
			t.Errorf("%d calls are hanging, want %d and no more", len(s.calls), maxCalls)
		}
		close(storage.hang)
		synctest.Wait()
		if len(s.calls) != 0 {
			t.Errorf("%d calls are left", len(s.calls))
		}
	})
}

func TestStore_Counts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id, storage := testIdentity(t, testLongTerm), newFakeStorage()
		s, other := testStore(storage, id, nil), testStore(storage, id, nil)
		counted := func(operation, result string, do func()) {
			t.Helper()
			before := counts.of(operation, result)
			do()
			synctest.Wait()
			if n := counts.of(operation, result) - before; n != 1 {
				t.Errorf("%s %s: counted %d times", operation, result, n)
			}
		}
		load := func() { s.Load(t.Context(), testKey) }
		save := func() { s.Save(t.Context(), testKey, ticketOf(t, id, time.Hour)) }
		unlock := func() {}
		lock := func() { unlock = s.Lock(t.Context(), testKey) }

		counted(opLoad, resultMiss, load)
		counted(opSave, resultOK, save)
		counted(opLoad, resultOK, load)
		counted(opLock, resultOK, lock)
		counted(opLock, resultBusy, func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			other.Lock(ctx, testKey)()
		})
		counted(opUnlock, resultOK, unlock)
		counted(opUnlock, resultFailed, unlock) // another process took the lock for stale
		time.Sleep(maxPause)
		time.Sleep(2 * time.Hour)
		counted(opLoad, resultMiss, load)
		counted(opDelete, resultOK, func() { s.Delete(t.Context(), testKey) })
		save()

		storage.err = errors.New("no route to the storage")
		for operation, do := range map[string]func(){opLoad: load, opSave: save, opLock: lock} {
			counted(operation, resultFailed, do)
			counted(operation, resultSkipped, do)
			time.Sleep(maxPause)
		}
	})
}

func TestStore_PanickingStorage(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	id := testIdentity(t, testLongTerm)
	s := testStore(nil, id, nil) // a nil interface: each call panics
	s.logger = zap.New(core)
	if _, ok := s.Load(t.Context(), testKey); ok {
		t.Fatal("loaded")
	}
	first := logs.All()[0]
	if stack, _ := first.ContextMap()["stack"].(string); first.Message != "the storage panicked" || !strings.Contains(stack, "ticketstore") {
		t.Errorf("%+v", first)
	}
	s.Save(t.Context(), testKey, ticketOf(t, id, time.Hour))
	if n := logs.FilterMessage("the storage panicked").Len(); n != 1 {
		t.Errorf("logged %d times: the storage is not paused", n)
	}
}
