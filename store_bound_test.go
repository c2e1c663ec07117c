package caddynegotiate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/cache"
)

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
