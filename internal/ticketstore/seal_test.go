package ticketstore

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func TestStore_SharedBySameKeysOnly(t *testing.T) {
	ctx := t.Context()
	configured := bytes.Repeat([]byte{7}, 32)
	password := identityWith(t, negotiate.PasswordSecret("a secret"))
	keytab1, keytab2 := testIdentity(t, testLongTerm), testIdentity(t, bytes.Repeat([]byte{1}, 32))
	another := bytes.Repeat([]byte{8}, 32)
	for _, row := range []struct {
		name                 string
		writer, reader       *negotiate.Identity
		writerKey, readerKey []byte
		want                 bool
	}{
		{"same keytab", keytab1, testIdentity(t, testLongTerm), nil, nil, true},
		{"another keytab", keytab1, keytab2, nil, nil, false},
		{"same configured key", keytab1, keytab2, configured, configured, true},
		{"another configured key", keytab1, keytab1, configured, another, false},
		{"a configured key that is the keytab's", keytab1, keytab1, nil, testLongTerm, false},
		{"password with a configured key", password, password, configured, configured, true},
		{"another kind of secret", password, keytab1, configured, configured, false},
		{"password without a key", password, password, nil, nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			storage := newFakeStorage()
			written := ticketOf(t, keytab1, time.Hour)
			testStore(storage, row.writer, row.writerKey).Save(ctx, testKey, written)
			read, ok := testStore(storage, row.reader, row.readerKey).Load(ctx, testKey)
			if ok != row.want {
				t.Fatalf("found: %t, want %t", ok, row.want)
			}
			if ok && (!read.End().Equal(written.End()) || !read.Credential().Key.Equal(written.Credential().Key)) {
				t.Fatalf("got %v, want %v", read, written)
			}
		})
	}
}

func TestStore_OneEntryPerKey(t *testing.T) {
	id, storage := testIdentity(t, testLongTerm), newFakeStorage()
	s := testStore(storage, id, nil)
	s.Save(t.Context(), testKey, ticketOf(t, id, time.Hour))
	if _, ok := s.Load(t.Context(), testKey); !ok {
		t.Fatal("not found under its own key")
	}
	for part, change := range map[string]func(*cache.Key){
		"user":  func(k *cache.Key) { k.User = "alice@CORP.EXAMPLE" },
		"realm": func(k *cache.Key) { k.Realm = "CORP.EXAMPLE" },
		"spn":   func(k *cache.Key) { k.SPN = "HTTP/other.corp.example" },
		"etypes": func(k *cache.Key) {
			k.Terms = termsOf(false, enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96)
		},
		"armor":   func(k *cache.Key) { k.Terms = termsOf(true, enctype.AES256_CTS_HMAC_SHA1_96) },
		"a UPN":   func(k *cache.Key) { k.UserType = int32(messages.KRB_NT_ENTERPRISE) },
		"options": func(k *cache.Key) { k.Options = 1 },
	} {
		key := testKey
		change(&key)
		if _, ok := s.Load(t.Context(), key); ok {
			t.Errorf("found with another %s", part)
		}
		s.Save(t.Context(), key, ticketOf(t, id, time.Hour))
		if _, ok := s.Load(t.Context(), key); !ok {
			t.Errorf("not stored with another %s", part)
		}
	}
}

func TestSeal_HidesContent(t *testing.T) {
	id, storage := testIdentity(t, testLongTerm), newFakeStorage()
	testStore(storage, id, nil).Save(t.Context(), testKey, ticketOf(t, id, time.Hour))
	name, content := storage.only(t)
	for _, secret := range []string{string(testSession), string(testTicket[:17]), string(testLongTerm), "svc-proxy", "web.corp", "CORP"} {
		if strings.Contains(name+string(content), secret) {
			t.Errorf("%q is in the entry %s", secret, name)
		}
	}
}

func TestSeal_Tampered(t *testing.T) {
	id, storage := testIdentity(t, testLongTerm), newFakeStorage()
	s := testStore(storage, id, nil)
	s.Save(t.Context(), testKey, ticketOf(t, id, time.Hour))
	name, good := storage.only(t)
	other := testKey
	other.SPN = "HTTP/other.corp.example"
	s.Save(t.Context(), other, ticketOf(t, id, time.Hour))

	try := func(what string, content []byte) {
		t.Helper()
		before := counts.of(opLoad, resultUnopened)
		storage.entries[name] = content
		if _, ok := s.Load(t.Context(), testKey); ok {
			t.Fatalf("%s: taken for a ticket", what)
		}
		if n := counts.of(opLoad, resultUnopened) - before; n != 1 {
			t.Fatalf("%s: counted %d times", what, n)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if i >= 1 && i < headerSize { // a later expiry
			copy(bad[1:headerSize], []byte{0, 0, 1, 0, 0, 0, 0, byte(i)})
		}
		try("byte changed", bad)
	}
	for n := range good {
		if n >= headerSize {
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

func TestParseKey(t *testing.T) {
	key := bytes.Repeat([]byte{0xfb}, 32)
	for _, text := range []string{base64.StdEncoding.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key) + "\n"} {
		if got, err := ParseKey(text); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%s: %x, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "too short", base64.StdEncoding.EncodeToString(key[1:])} {
		if _, err := ParseKey(text); err == nil {
			t.Errorf("%q: taken for a key", text)
		}
	}
}

// ccacheIdentity is an identity with a credential cache of the principal; rewrite gives the file
// another principal and has the identity notice.
func ccacheIdentity(t *testing.T, owner messages.Principal) (id *negotiate.Identity, rewrite func(messages.Principal)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ccache")
	write := func(owner messages.Principal) {
		t.Helper()
		file := ccache.CCache{DefaultPrincipal: owner}
		content, err := file.Marshal()
		if err == nil {
			err = os.WriteFile(path, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(owner)
	id, err := negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: "ccache", Secret: negotiate.CCacheSecret(ccache.File(path)), Tickets: cache.New[*negotiate.Ticket](cache.Config{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	sender, err := kdc.NewSender(kdc.Config{Finder: kdc.Static{}})
	if err != nil {
		t.Fatal(err)
	}
	client, err := krb5core.NewClient(krb5core.Config{Sender: sender})
	if err != nil {
		t.Fatal(err)
	}
	return id, func(owner messages.Principal) {
		write(owner)
		_, _ = id.Initiator(negotiate.NewSettings("ccache", client)).Login(t.Context()) // reads the file
	}
}

// A ticket is stored under the principal that it was obtained for, even if the credential cache
// gets another one meanwhile.
func TestStore_CCacheChangesOwner(t *testing.T) {
	second := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "second-who-is-longer"), Realm: "CORP.EXAMPLE"}
	id, rewrite := ccacheIdentity(t, testPrincipal)
	first := testKey
	first.Identity = "ccache " + testPrincipal.String()
	if !id.Owns(first) {
		t.Fatal("not the identity's key")
	}
	storage := newFakeStorage()
	s := testStore(storage, id, bytes.Repeat([]byte{7}, 32))
	find, again := s.cfg.Find, false
	s.cfg.Find = func(key cache.Key) *negotiate.Identity {
		found := find(key)
		if !again { // after the key was found to be the identity's
			again = true
			rewrite(second)
		}
		return found
	}
	s.Save(t.Context(), first, ticketOf(t, id, time.Hour))
	seconds := first
	seconds.Identity = "ccache " + second.String()
	if !id.Owns(seconds) {
		t.Fatal("the identity has not followed its file")
	}
	if got, ok := s.Load(t.Context(), seconds); ok {
		t.Errorf("the store returns a ticket of %s for %s", got.Client(), second)
	}
	if len(storage.entries) != 0 {
		t.Errorf("%d tickets stored, want none", len(storage.entries))
	}
}

// A stored ticket of another principal is not used.
func TestStore_OtherPrincipal(t *testing.T) {
	other := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "other"), Realm: "CORP.EXAMPLE"}
	ccacheID, _ := ccacheIdentity(t, other)
	ccacheKey := testKey
	ccacheKey.Identity = "ccache " + other.String()
	keytabID, err := negotiate.NewIdentity(negotiate.IdentityConfig{Key: testKey.Identity, Principal: other, Secret: negotiate.PasswordSecret("x")})
	if err != nil {
		t.Fatal(err)
	}
	for id, key := range map[*negotiate.Identity]cache.Key{ccacheID: ccacheKey, keytabID: testKey} {
		s := testStore(newFakeStorage(), id, bytes.Repeat([]byte{7}, 32))
		ticket := ticketOf(t, id, time.Hour) // its client is testPrincipal
		s.Save(t.Context(), key, ticket)
		if _, ok := s.Load(t.Context(), key); ok {
			t.Errorf("%s: a ticket of %s is used", id, ticket.Client())
		}
		key.User = testPrincipal.String()
		s.Save(t.Context(), key, ticket)
		if _, ok := s.Load(t.Context(), key); !ok {
			t.Errorf("%s: the ticket of a user is not used", id)
		}
	}
}
