package identitypool

import (
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/internal/config"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

const password = "a password"

// startKDC starts a KDC of CORP.EXAMPLE with the accounts svc-proxy and HTTP/web.
func startKDC(t *testing.T) *kdctest.KDC {
	t.Helper()
	realm := kdctest.NewRealm("CORP.EXAMPLE")
	realm.AddUser("svc-proxy", password)
	realm.AddService("HTTP/web.corp.example")
	k := kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}})
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	return k
}

func resolve(t *testing.T, c config.Credentials) *config.Resolved {
	t.Helper()
	env, err := config.NewEnv(nil, "", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := c.Resolve(env)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

func open(t *testing.T, p *Pool, name string, c config.Credentials) *Ref {
	t.Helper()
	r, err := p.Open(resolve(t, c), name, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func account(secret string, kdcs ...string) config.Credentials {
	return config.Credentials{User: "svc-proxy@CORP.EXAMPLE", Password: secret, KDC: kdcs}
}

func TestPool_SameAccountIsOneIdentity(t *testing.T) {
	p := New()
	a, b := open(t, p, "b-name", account(password, "a1")), open(t, p, "a-name", account(password, "a2"))
	other := open(t, p, "", account("another password", "a1"))
	if a.identity != b.identity || a.identity == other.identity || len(p.Identities()) != 2 {
		t.Fatalf("%d identities", len(p.Identities()))
	}
	if names := a.identity.Names(); !slices.Equal(names, []string{"a-name", "b-name"}) || a.identity.Name() != "a-name" || a.Requests().Identity() != "a-name" {
		t.Errorf("names %v", names)
	}
	if other.identity.Name() != "svc-proxy@CORP.EXAMPLE" {
		t.Errorf("without a name: %s", other.identity.Name())
	}
	if servers := a.identity.Servers(); len(servers) != 2 {
		t.Errorf("KDCs %v", servers)
	}
	b.Release()
	b.Release()
	if a.identity.Name() != "b-name" || a.Requests().Identity() != "b-name" {
		t.Error("the released name is in use")
	}
	shared := a.Share()
	a.Release()
	if len(p.Identities()) != 2 {
		t.Error("gone though it is shared")
	}
	shared.Release()
	if len(p.Identities()) != 1 {
		t.Error("not gone")
	}
	(*Ref)(nil).Release()
}

func TestPool_ReleaseDropsTickets(t *testing.T) {
	k, p := startKDC(t), New()
	a := open(t, p, "a", account(password, k.Addr()))
	b := a.Share()
	if _, err := a.Initiator().Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	if held := a.identity.Select(p.Tickets()); len(held) != 1 || p.Find(held[0].Key) != a.identity.Identity {
		t.Fatalf("tickets %v", held)
	}
	if health := p.Health(); len(health) != 1 {
		t.Errorf("health %v", health)
	}
	a.Release()
	if len(p.Tickets()) != 1 {
		t.Fatal("dropped while in use")
	}
	key := p.Tickets()[0].Key
	b.Release()
	if len(p.Tickets()) != 0 || p.Find(key) != nil {
		t.Error("kept")
	}
}

func TestPool_Readings(t *testing.T) {
	k, p := startKDC(t), New()
	good, bad := open(t, p, "good", account(password, k.Addr())), open(t, p, "bad", account("wrong", k.Addr()))
	if r := p.Readings(); len(r) != 0 {
		t.Fatalf("before the first login: %+v", r)
	}
	if _, err := good.Initiator().Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := bad.Initiator().Login(t.Context()); err == nil {
		t.Fatal("logged in")
	}
	for _, r := range p.Readings() {
		offset, ok := r.Offsets["CORP.EXAMPLE"]
		switch {
		case !ok || offset.Abs() > time.Minute:
			t.Errorf("offsets %v", r.Offsets)
		case r.Identity == "good" && (r.Tickets != 1 || r.TGTEnd.IsZero() || r.Refused), r.Identity == "bad" && (r.Tickets != 0 || !r.TGTEnd.IsZero() || !r.Refused):
			t.Errorf("%+v", r)
		}
	}
	good.identity.Flush()
	for _, r := range p.Readings() {
		if r.Identity == "good" && (r.Tickets != 0 || r.TGTEnd.IsZero()) {
			t.Errorf("after a flush the last end is shown: %+v", r)
		}
	}
}

func TestPool_BadPacketFile(t *testing.T) {
	c, p := account(password, "a1"), New()
	c.Trace, c.TracePackets = true, t.TempDir()
	if _, err := p.Open(resolve(t, c), "", zap.NewNop()); err == nil || len(p.Identities()) != 0 {
		t.Errorf("%v, %d identities", err, len(p.Identities()))
	}
}

func TestIdentity_FarEnd(t *testing.T) {
	id := new(Identity)
	far := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	id.observe(func(negotiate.Event) {})(negotiate.LoggedIn{Credential: &messages.Credential{EndTime: far}})
	if end := id.tgtEnd(nil); !end.Equal(far) {
		t.Errorf("the ticket-granting ticket ends at %s, want %s", end, far)
	}
}
