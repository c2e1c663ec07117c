package caddynegotiate

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/internal/identitypool"
)

func TestApp_Limits(t *testing.T) {
	want := func(memory int64) {
		t.Helper()
		if got := identitypool.Process.Limits().Memory; got != memory {
			t.Fatalf("memory %d, want %d", got, memory)
		}
	}
	provisioned := func(memory int64) *App {
		t.Helper()
		ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
		if err != nil {
			t.Fatal(err)
		}
		app := &App{TicketMemory: memory}
		if err := app.Provision(ctx); err != nil {
			t.Fatal(err)
		}
		return app
	}
	do := func(step func() error) {
		t.Helper()
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	rejected := provisioned(1 << 20)
	want(1 << 20)
	do(rejected.Cleanup) // never started
	want(0)

	first := provisioned(2 << 20)
	want(2 << 20)
	next := provisioned(3 << 20)
	want(2 << 20)
	do(next.Cleanup)
	want(2 << 20)
	do(first.Start)
	next = provisioned(4 << 20)
	do(next.Start)
	want(4 << 20)
	do(first.Stop)
	do(first.Cleanup)
	want(4 << 20)
	do(next.Stop)
	do(next.Cleanup)
	want(0)
}

func TestApp_Validate(t *testing.T) {
	t.Setenv("TICKET_KEY", base64.StdEncoding.EncodeToString(make([]byte, 32)))
	for _, row := range []struct {
		app   *App
		fails string
	}{
		{&App{TicketStore: "storage"}, "needs a KEY for a password"},
		{&App{TicketStore: "storage", TicketStoreKey: "{env.TICKET_KEY}"}, ""},
		{&App{TicketStore: "storage", TicketStoreKey: base64.StdEncoding.EncodeToString(make([]byte, 32))}, ""},
		{&App{TicketStore: "storage", TicketStoreKey: "{env.TICKET_KEY_UNSET}"}, "TICKET_KEY_UNSET"},
		{&App{TicketStore: "storage", TicketStoreKey: "{http.request.host}"}, "only the placeholders"},
		{&App{TicketStore: "storage", TicketStoreKey: "c2hvcnQ="}, "not 32 bytes in base64"},
		{&App{TicketStore: "redis"}, "none of memory, storage"},
		{&App{TicketStoreKey: "c2hvcnQ="}, "nothing to seal"},
		{&App{TicketMemory: 1000}, "at least 1MiB"},
		{&App{TicketMemory: -1}, "at least 1MiB"},
	} {
		app := row.app
		app.Identities = map[string]*config.Credentials{"intranet": {User: "svc@CORP.EXAMPLE", Password: "secret", KDC: []string{"127.0.0.1"}}}
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
