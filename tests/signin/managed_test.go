package signin

import (
	"net/http"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// The password of a group managed service account opens tickets, and so does the one before it.
func TestSignIn_ManagedPassword(t *testing.T) {
	e := newEnv(t, caddytest.Options{Proxy: []kdctest.Option{kdctest.SPN("HTTP/other.corp.example")}})
	m := caddytest.NewManaged(e.Env)
	m.Managed.Set(kdctest.SPN(service))
	alice := e.user("alice")
	auth := caddytest.Block("negotiate_auth", m.ManagedLogin(spnLine)...)

	m.Directory.Stop()
	e.load(auth, who)
	if a := e.get(alice.SignIn); a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("without the directory: %v", a)
	}
	if err := m.Directory.Start(); err != nil {
		t.Fatal(err)
	}
	caddytest.WaitFor(t, "alice can sign in", func() bool { return e.get(alice.SignIn).Status == http.StatusOK })
	a := e.get(alice.SignIn)
	alice.WantProof(a)
	wantUser(t, a, "alice")

	m.Managed.Roll(true, false)
	wantUser(t, e.get(alice.SignIn), "alice") // with a ticket from before
	caddytest.Stop(t)
	e.load(auth, who)
	wantUser(t, e.get(e.user("bob").SignIn), "bob")
	wantUser(t, e.get(alice.SignIn), "alice")
	if n := m.Directory.Searches(); n != 2 {
		t.Errorf("the password was read %d times", n)
	}
}
