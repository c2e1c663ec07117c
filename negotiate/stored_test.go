package negotiate_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// storingIdentity is an identity with a keytab of two versions, the newest first
// an AES-128 key.
func storingIdentity(t *testing.T, now func() time.Time) (*negotiate.Identity, []keytab.Entry) {
	t.Helper()
	principal := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "svc-proxy"), Realm: "CORP.EXAMPLE"}
	var file keytab.Keytab
	for _, e := range []struct {
		kvno  uint32
		etype enctype.ID
	}{{1, enctype.AES256_CTS_HMAC_SHA1_96}, {2, enctype.AES128_CTS_HMAC_SHA1_96}, {2, enctype.AES256_CTS_HMAC_SHA1_96}} {
		key := must.OK(enctype.NewKey(e.etype, bytes.Repeat([]byte{byte(e.kvno), byte(e.etype)}, e.etype.KeySize()/2)))(t)
		file.Entries = append(file.Entries, keytab.Entry{Principal: principal, Timestamp: time.Unix(1, 0), KVNO: e.kvno, Key: key})
	}
	content := must.OK(file.Marshal())(t)
	path := filepath.Join(t.TempDir(), "keytab")
	must.Do(t, os.WriteFile(path, content, 0o600))
	id, err := negotiate.NewIdentity(negotiate.IdentityConfig{
		Key: "svc-proxy", Principal: principal, Secret: negotiate.KeytabSecret(path, principal), Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return id, file.Entries
}

func TestLongTermKey(t *testing.T) {
	id, entries := storingIdentity(t, nil)
	for _, row := range []struct {
		allowed []enctype.ID
		want    enctype.Key
	}{
		{[]enctype.ID{enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96}, entries[1].Key},
		{[]enctype.ID{enctype.AES256_CTS_HMAC_SHA1_96}, entries[2].Key},
	} {
		if key, ok := id.LongTermKey(row.allowed); !ok || !key.Equal(row.want) {
			t.Errorf("%v: %v, %t; want that of the keytab's newest version", row.allowed, key, ok)
		}
	}
	if _, ok := id.LongTermKey([]enctype.ID{enctype.CAMELLIA256_CTS_CMAC}); ok {
		t.Error("a key of a type that is not there")
	}
}

func TestMarshal_RoundTrip(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	id, entries := storingIdentity(t, func() time.Time { return now })
	first := must.OK(id.Unmarshal(storedTicket(t, entries[2].Key, now)))(t)
	stored := must.OK(first.Marshal())(t)
	now = now.Add(time.Hour)
	again := must.OK(id.Unmarshal(stored))(t)
	if !again.Start().Equal(first.Start()) || !again.End().Equal(first.End()) || again.Client() != first.Client() {
		t.Errorf("got %v since %v, want %v since %v", again, again.Start(), first, first.Start())
	}
	if a := again.Credential().Account; a == nil || *a != (messages.Account{Name: "DC1$", Machine: true}) {
		t.Errorf("account %v", a)
	}
	if diff := cmp.Diff(first.Credential(), again.Credential(), cmp.Comparer(enctype.Key.Equal)); diff != "" {
		t.Error(diff)
	}
	for n := range stored {
		if _, err := id.Unmarshal(stored[:n]); err == nil {
			t.Fatalf("%d of %d bytes pass for a ticket", n, len(stored))
		}
	}
}

// storedTicket is a ticket as Marshal writes it, put together by hand.
func storedTicket(t *testing.T, session enctype.Key, at time.Time) []byte {
	t.Helper()
	b, err := negotiate.StoredTicket(&messages.Credential{
		Client:   messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "svc-proxy"), Realm: "CORP.EXAMPLE"},
		Service:  messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_SRV_INST, "HTTP", "web.corp.example"), Realm: "CORP.EXAMPLE"},
		Key:      session,
		AuthTime: at.Local(), StartTime: at.Local(), EndTime: at.Add(10 * time.Hour).Local(), RenewTill: at.Add(24 * time.Hour).Local(),
		Flags:   messages.TKT_FLG_OK_AS_DELEGATE | messages.TKT_FLG_FORWARDABLE,
		Ticket:  bytes.Repeat([]byte("ticket"), 200),
		Account: &messages.Account{Name: "DC1$", Machine: true},
	}, at)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
