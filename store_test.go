package caddynegotiate

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

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
	if held, ok := s.locks[name]; ok {
		close(held)
		delete(s.locks, name)
	}
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

func TestStoredTicketsAreSharedBySameKeysOnly(t *testing.T) {
	ctx := t.Context()
	stated := bytes.Repeat([]byte{7}, 32)
	password := identityWith(t, negotiate.PasswordSecret("a secret"))
	keytab1, keytab2 := testIdentity(t, testLongTerm), testIdentity(t, bytes.Repeat([]byte{1}, 32))
	for _, row := range []struct {
		name           string
		writer, reader func(certmagic.Storage) *ticketStore
		want           bool
	}{
		{"same keytab", func(c certmagic.Storage) *ticketStore { return testStore(c, keytab1, nil) },
			func(c certmagic.Storage) *ticketStore { return testStore(c, testIdentity(t, testLongTerm), nil) }, true},
		{"another keytab", func(c certmagic.Storage) *ticketStore { return testStore(c, keytab1, nil) },
			func(c certmagic.Storage) *ticketStore { return testStore(c, keytab2, nil) }, false},
		{"same stated key", func(c certmagic.Storage) *ticketStore { return testStore(c, keytab1, stated) },
			func(c certmagic.Storage) *ticketStore { return testStore(c, keytab2, stated) }, true},
		{"another stated key", func(c certmagic.Storage) *ticketStore { return testStore(c, keytab1, stated) },
			func(c certmagic.Storage) *ticketStore { return testStore(c, keytab1, bytes.Repeat([]byte{8}, 32)) }, false},
		{"a stated key that is the keytab's", func(c certmagic.Storage) *ticketStore { return testStore(c, keytab1, nil) },
			func(c certmagic.Storage) *ticketStore { return testStore(c, keytab1, testLongTerm) }, false},
		{"password with a stated key", func(c certmagic.Storage) *ticketStore { return testStore(c, password, stated) },
			func(c certmagic.Storage) *ticketStore { return testStore(c, password, stated) }, true},
		{"another kind of secret", func(c certmagic.Storage) *ticketStore { return testStore(c, password, stated) },
			func(c certmagic.Storage) *ticketStore { return testStore(c, keytab1, stated) }, false},
		{"password without a key", func(c certmagic.Storage) *ticketStore { return testStore(c, password, nil) },
			func(c certmagic.Storage) *ticketStore { return testStore(c, password, nil) }, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			storage := newShelf()
			written := ticketOf(t, keytab1, time.Hour)
			row.writer(storage).Save(ctx, testKey, written)
			read, ok := row.reader(storage).Load(ctx, testKey)
			if ok != row.want {
				t.Fatalf("found: %t, want %t", ok, row.want)
			}
			if ok && (!read.End().Equal(written.End()) || !read.Credential().Key.Equal(written.Credential().Key)) {
				t.Fatalf("got %v, want %v", read, written)
			}
		})
	}
}

func TestStoredTicketIsForItsKeyAlone(t *testing.T) {
	id, storage := testIdentity(t, testLongTerm), newShelf()
	s := testStore(storage, id, nil)
	s.Save(t.Context(), testKey, ticketOf(t, id, time.Hour))
	if _, ok := s.Load(t.Context(), testKey); !ok {
		t.Fatal("not found under its own key")
	}
	for part, change := range map[string]func(*cache.Key){
		"user":    func(k *cache.Key) { k.User = "alice@CORP.EXAMPLE" },
		"realm":   func(k *cache.Key) { k.Realm = "CORP.EXAMPLE" },
		"spn":     func(k *cache.Key) { k.SPN = "HTTP/other.corp.example" },
		"etypes":  func(k *cache.Key) { k.ETypes = "[aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96]" },
		"options": func(k *cache.Key) { k.Options = 1 },
	} {
		key := testKey
		change(&key)
		if _, ok := s.Load(t.Context(), key); ok {
			t.Errorf("found with another %s", part)
		}
	}
}

func TestStoredTicketShowsNothing(t *testing.T) {
	id, storage := testIdentity(t, testLongTerm), newShelf()
	testStore(storage, id, nil).Save(t.Context(), testKey, ticketOf(t, id, time.Hour))
	name, content := storage.only(t)
	for _, secret := range []string{string(testSession), string(testTicket[:17]), string(testLongTerm), "svc-proxy", "web.corp", "CORP"} {
		if strings.Contains(name+string(content), secret) {
			t.Errorf("%q stands in the entry %s", secret, name)
		}
	}
}

func TestTamperedStoredTicketIsAMissAndCounted(t *testing.T) {
	id, storage := testIdentity(t, testLongTerm), newShelf()
	s := testStore(storage, id, nil)
	s.Save(t.Context(), testKey, ticketOf(t, id, time.Hour))
	name, good := storage.only(t)
	other := testKey
	other.SPN = "HTTP/other.corp.example"
	s.Save(t.Context(), other, ticketOf(t, id, time.Hour))

	try := func(what string, content []byte) {
		t.Helper()
		before := storeCount(opLoad, storeUnopened)
		storage.entries[name] = content
		if _, ok := s.Load(t.Context(), testKey); ok {
			t.Fatalf("%s: taken for a ticket", what)
		}
		if n := storeCount(opLoad, storeUnopened) - before; n != 1 {
			t.Fatalf("%s: counted %v times", what, n)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if i >= 1 && i < storeHeader { // an expiry put off
			copy(bad[1:storeHeader], []byte{0, 0, 1, 0, 0, 0, 0, byte(i)})
		}
		try("octet changed", bad)
	}
	for n := range good {
		if n >= storeHeader {
			try("cut", good[:n])
		}
	}
	for stored, content := range storage.entries {
		if stored != name {
			try("swapped", content)
		}
	}
	try("empty", []byte{})
	try("grown", append(bytes.Clone(good), make([]byte, maxStored)...))
	storage.entries[name] = good
	if _, ok := s.Load(t.Context(), testKey); !ok {
		t.Fatal("the untouched entry does not open any more")
	}
}

func TestExpiredStoredTicketIsAMissAndNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id, storage := testIdentity(t, testLongTerm), newShelf()
		s := testStore(storage, id, nil)
		s.Save(t.Context(), testKey, ticketOf(t, id, time.Hour))
		before := storeCount(opLoad, storeUnopened)
		time.Sleep(2 * time.Hour)
		if _, ok := s.Load(t.Context(), testKey); ok {
			t.Fatal("an expired ticket was taken")
		}
		if storeCount(opLoad, storeUnopened) != before {
			t.Fatal("counted as one that does not open")
		}
	})
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

func TestRefusedConfigurationLeavesNoBounds(t *testing.T) {
	storage := newShelf()
	running := &bound{memory: 1 << 20, store: testStore(storage, testIdentity(t, testLongTerm), nil)}
	refused := &bound{memory: 2 << 20}
	next := &bound{memory: 3 << 20}
	want := func(memory int64) {
		t.Helper()
		if got := tickets.Stats().Memory; got != memory {
			t.Fatalf("memory %d, want %d", got, memory)
		}
	}
	running.enforce()
	want(1 << 20)
	refused.enforce() // it starts, another app of its configuration does not
	refused.lift()
	want(1 << 20)
	next.enforce()
	running.lift()
	want(3 << 20)
	next.lift()
	want(cache.DefaultMemory)
}

func TestBoundsOfTheFirstConfigurationDoNotWaitForStart(t *testing.T) {
	want := func(memory int64) {
		t.Helper()
		if got := tickets.Stats().Memory; got != memory {
			t.Fatalf("memory %d, want %d", got, memory)
		}
	}
	provisioned := func(memory int64) *App {
		t.Helper()
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		t.Cleanup(cancel)
		app := &App{TicketMemory: memory}
		if err := app.Provision(ctx); err != nil {
			t.Fatal(err)
		}
		return app
	}
	cleanup := func(app *App) {
		t.Helper()
		if err := app.Cleanup(); err != nil {
			t.Fatal(err)
		}
	}
	refused := provisioned(1 << 20)
	want(1 << 20)
	cleanup(refused) // never started
	want(cache.DefaultMemory)

	first := provisioned(2 << 20)
	want(2 << 20)
	next := provisioned(3 << 20)
	want(2 << 20) // there is something to leave alone
	cleanup(next)
	want(2 << 20)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	next = provisioned(4 << 20)
	if err := next.Start(); err != nil {
		t.Fatal(err)
	}
	want(4 << 20)
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	cleanup(first)
	want(4 << 20)
	if err := next.Stop(); err != nil {
		t.Fatal(err)
	}
	cleanup(next)
	want(cache.DefaultMemory)
}

func TestTicketStoreKeyIsRead(t *testing.T) {
	key := bytes.Repeat([]byte{0xfb}, 32)
	t.Setenv("TICKET_KEY", base64.StdEncoding.EncodeToString(key))
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(base64.RawURLEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"{env.TICKET_KEY}", "{file." + file + "}", base64.StdEncoding.EncodeToString(key)} {
		if got, err := parseStoreKey(text); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%s: %x, %v", text, got, err)
		}
	}
	for _, text := range []string{"{env.TICKET_KEY_UNSET}", "too short", base64.StdEncoding.EncodeToString(key[1:]), "{http.request.host}"} {
		if _, err := parseStoreKey(text); err == nil {
			t.Errorf("%s: taken for a key", text)
		}
	}
}

func TestTicketStoreOption(t *testing.T) {
	for _, row := range []struct{ line, want, fails string }{
		{line: "ticket_store memory", want: `{"ticket_store":"memory"}`},
		{line: "ticket_store storage", want: `{"ticket_store":"storage"}`},
		{line: "ticket_store storage {env.TICKET_KEY}", want: `{"ticket_store":"storage","ticket_store_key":"{env.TICKET_KEY}"}`},
		{line: "ticket_store", fails: "ticket_store takes memory, or storage"},
		{line: "ticket_store redis", fails: "ticket_store takes memory, or storage"},
		{line: "ticket_store memory key", fails: "ticket_store takes memory, or storage"},
		{line: "ticket_store memory\nticket_store memory", fails: "given twice"},
	} {
		got, err := parseKerberos(caddyfile.NewTestDispenser("kerberos {\n"+row.line+"\n}"), nil)
		if row.fails != "" {
			if err == nil || !strings.Contains(err.Error(), row.fails) {
				t.Errorf("%s: error %v, want one with %q", row.line, err, row.fails)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", row.line, err)
			continue
		}
		raw, err := json.Marshal(got)
		if err != nil || !strings.Contains(string(raw), row.want[1:len(row.want)-1]) {
			t.Errorf("%s: %s (%v), want %s", row.line, raw, err, row.want)
		}
	}
}

func TestTicketStoreNeedsAKeyForWhatHasNoKeytab(t *testing.T) {
	for _, row := range []struct {
		app   *App
		fails string
	}{
		{&App{TicketStore: "storage"}, "needs a KEY for a password"},
		{&App{TicketStore: "storage", TicketStoreKey: base64.StdEncoding.EncodeToString(make([]byte, 32))}, ""},
		{&App{TicketStore: "storage", TicketStoreKey: "c2hvcnQ="}, "not 32 bytes in base64"},
		{&App{TicketStore: "redis"}, "none of memory, storage"},
		{&App{TicketStoreKey: "c2hvcnQ="}, "nothing to seal"},
	} {
		app := row.app
		app.Identities = map[string]*Credentials{"intranet": {User: "svc@CORP.EXAMPLE", Password: "secret", KDC: []string{"127.0.0.1"}}}
		raw, err := json.Marshal(app)
		if err != nil {
			t.Fatal(err)
		}
		err = caddy.Validate(&caddy.Config{
			Admin:   &caddy.AdminConfig{Disabled: true},
			AppsRaw: caddy.ModuleMap{"kerberos": raw},
		})
		if row.fails == "" && err != nil || row.fails != "" && (err == nil || !strings.Contains(err.Error(), row.fails)) {
			t.Errorf("%s: error %v, want one with %q", raw, err, row.fails)
		}
	}
}
