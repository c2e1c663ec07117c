package faults

import (
	"net/http"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// What SECURITY.md promises of a token that was copied: it is good once at each Caddy of a fleet, and
// at none after the restart of it.
func TestReplay_AtEachMember(t *testing.T) {
	e := caddytest.NewEnv(t, caddytest.Options{Proxy: []kdctest.Option{kdctest.SPN("HTTP/proxy.corp.example")}})
	e.Realm.AddUser("alice", "the user's")
	alice := caddytest.NewUser(t, e.KDC, "alice@"+caddytest.RealmName, "the user's", "HTTP/proxy.corp.example")
	start := func(name string) *process {
		address := caddytest.FreeAddress(t)
		auth := caddytest.Block("negotiate_auth", e.Login("spn HTTP/proxy.corp.example")...)
		config := caddytest.Block("", "admin off", "persist_config off", "auto_https off", "storage file_system "+e.Storage()) + "\n" + caddytest.Site(address, auth, `respond "{http.auth.user.id}"`)
		return startCaddy(t, name, address, config, true).ready()
	}
	ask := func(p *process, token func(*http.Request)) int {
		r := caddytest.Request(t, http.MethodGet, "http://"+p.address+"/", token)
		a, err := caddytest.Ask(caddytest.Client(t), r)
		if err != nil {
			t.Fatal(err)
		}
		return a.Status
	}
	members := []*process{start("first"), start("second")}
	token := caddytest.Bearing(alice.Token(caddytest.Authenticator{}))
	for _, want := range []int{http.StatusOK, http.StatusUnauthorized} {
		for i, p := range members {
			if got := ask(p, token); got != want {
				t.Errorf("member %d answered %d, want %d", i, got, want)
			}
		}
	}
	members[0].kill()
	again := start("first")
	if got := ask(again, token); got != http.StatusUnauthorized {
		t.Errorf("after a restart it answered %d", got)
	}
	if got := ask(again, alice.SignIn); got != http.StatusOK {
		t.Errorf("a new token was answered %d", got)
	}
}
