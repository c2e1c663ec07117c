package caddynegotiate

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// shelf is a storage in memory with troubles to order.
type shelf struct {
	certmagic.Storage // what is not used here is nil

	mu      sync.Mutex
	entries map[string][]byte
	locks   map[string]chan struct{}
	err     error         // of every call
	hang    chan struct{} // calls wait for it, whatever their context says
	calls   int
}

func newShelf() *shelf {
	return &shelf{entries: make(map[string][]byte), locks: make(map[string]chan struct{})}
}

func (s *shelf) trouble() error {
	s.mu.Lock()
	s.calls++
	err, hang := s.err, s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return err
}

func (s *shelf) Load(_ context.Context, key string) ([]byte, error) {
	if err := s.trouble(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.entries[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(b), nil
}

func (s *shelf) Store(_ context.Context, key string, value []byte) error {
	if err := s.trouble(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[key] = bytes.Clone(value)
	return nil
}

func (s *shelf) Delete(_ context.Context, key string) error {
	if err := s.trouble(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, key)
	return nil
}

func (s *shelf) Lock(ctx context.Context, name string) error {
	if err := s.trouble(); err != nil {
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

func (s *shelf) Unlock(_ context.Context, name string) error {
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

func (s *shelf) locked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.locks)
}

// only is the one entry.
func (s *shelf) only(t *testing.T) (name string, content []byte) {
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
	testKey       = cache.Key{Identity: "svc-proxy", SPN: "HTTP/web.corp.example", ETypes: "[aes256-cts-hmac-sha1-96]"}
	testLongTerm  = bytes.Repeat([]byte("long-term key   "), 2)
	testSession   = bytes.Repeat([]byte("session key     "), 2)
	testTicket    = bytes.Repeat([]byte("a ticket's octets"), 60)
)

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
func testStore(storage certmagic.Storage, id *negotiate.Identity, master []byte) *ticketStore {
	s := newTicketStore(storage, master, zap.NewNop())
	s.find = func(key cache.Key) *negotiate.Identity {
		if id.Owns(key) {
			return id
		}
		return nil
	}
	return s
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

func TestStorageThatFailsIsLeftAloneForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id, storage := testIdentity(t, testLongTerm), newShelf()
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
		time.Sleep(storePauseLongest)
		if _, ok := s.Load(t.Context(), testKey); !ok {
			t.Fatal("not taken up again when it was back")
		}
	})
}

func TestStorageThatHangsDelaysNobodyLongAndHoldsFewGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id, storage := testIdentity(t, testLongTerm), newShelf()
		s := testStore(storage, id, nil)
		storage.hang = make(chan struct{})
		begin := time.Now()
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			s.Load(ctx, testKey)
			s.Lock(ctx, testKey)()
			cancel()
			time.Sleep(storePauseLongest)
		}
		if took := time.Since(begin) - 200*storePauseLongest; took > storeCalls*time.Second {
			t.Errorf("200 fetches waited %v in all, want %d s at most: calls that hang are bounded", took, storeCalls)
		}
		if len(s.calls) != storeCalls {
			t.Errorf("%d calls are hanging, want %d and no more", len(s.calls), storeCalls)
		}
		close(storage.hang)
		synctest.Wait()
		if len(s.calls) != 0 {
			t.Errorf("%d calls are left", len(s.calls))
		}
	})
}

// storeCount reads caddy_kerberos_store_operations_total.
func storeCount(operation, result string) float64 {
	registry := prometheus.NewRegistry()
	registry.MustRegister(storeOperations)
	families, _ := registry.Gather()
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if l := m.GetLabel(); l[0].GetValue() == operation && l[1].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestStoreOperationsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id, storage := testIdentity(t, testLongTerm), newShelf()
		s, other := testStore(storage, id, nil), testStore(storage, id, nil)
		counted := func(operation, result string, do func()) {
			t.Helper()
			before := storeCount(operation, result)
			do()
			synctest.Wait()
			if n := storeCount(operation, result) - before; n != 1 {
				t.Errorf("%s %s: counted %v times", operation, result, n)
			}
		}
		load := func() { s.Load(t.Context(), testKey) }
		save := func() { s.Save(t.Context(), testKey, ticketOf(t, id, time.Hour)) }
		unlock := func() {}
		lock := func() { unlock = s.Lock(t.Context(), testKey) }

		counted(opLoad, storeMiss, load)
		counted(opSave, storeOK, save)
		counted(opLoad, storeOK, load)
		counted(opLock, storeOK, lock)
		counted(opLock, storeBusy, func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			other.Lock(ctx, testKey)()
		})
		counted(opUnlock, storeOK, unlock)
		counted(opUnlock, storeFailed, unlock) // another process took the lock for stale
		time.Sleep(storePauseLongest)
		time.Sleep(2 * time.Hour)
		counted(opLoad, storeMiss, load)
		counted(opDelete, storeOK, func() { s.Delete(t.Context(), testKey) })
		save()

		storage.err = errors.New("no route to the storage")
		for operation, do := range map[string]func(){opLoad: load, opSave: save, opLock: lock} {
			counted(operation, storeFailed, do)
			counted(operation, storeSkipped, do)
			time.Sleep(storePauseLongest)
		}
	})
}

func TestRunningCaddyCountsWhatItLooksForInTheStore(t *testing.T) {
	r := newCommandLab(t, nil).serve()
	r.load("ticket_store storage\n\t\t"+r.identity("stored"), r.proxied("stored {", "spn "+labService))
	before := r.scrape()
	if status := r.get("/", "site"); status != http.StatusOK {
		t.Fatalf("got %d", status)
	}
	// Looked for before a KDC is asked; saving may take longer than the answer.
	const missed = `caddy_kerberos_store_operations_total{operation="load",result="miss"}`
	if n := grown(before, r.scrape(), missed); n == 0 {
		t.Errorf("%s has not grown", missed)
	}
}
