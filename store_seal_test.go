package caddynegotiate

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

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
