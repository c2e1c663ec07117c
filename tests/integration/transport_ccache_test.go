package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// kinit logs in and puts the ticket-granting ticket in the place of what is in the
// credential cache.
func (s *site) kinit(path, name string, p *kdctest.Principal) {
	s.T.Helper()
	must := func(err error) {
		s.T.Helper()
		if err != nil {
			s.T.Fatal(err)
		}
	}
	file, err := keytab.Parse(s.KeysOf(p))
	must(err)
	who, err := krb5core.ParseUser(name, krb5core.UserForm{})
	must(err)
	keys, err := krb5core.KeytabKeys(file, who)
	must(err)
	server, err := kdc.ParseServer(s.KDC.Addr())
	must(err)
	finder := kdc.Static{realmName: {server}}
	sender, err := kdc.NewSender(kdc.Config{Finder: finder})
	must(err)
	client, err := krb5core.NewClient(krb5core.Config{Sender: sender, Finder: finder})
	must(err)
	tgt, err := client.Login(s.T.Context(), krb5core.NewAccount(who, keys, nil), nil)
	must(err)
	cache := &ccache.CCache{Version: 4, DefaultPrincipal: tgt.Client, Credentials: []messages.Credential{*tgt}}
	content, err := cache.Marshal()
	must(err)
	must(os.Rename(s.Write(filepath.Base(path)+".new", content), path))
}

// A connection that is bound to a principal is not used for the next one.
func TestConnections_CCacheChangesOwner(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	p := s.serve(service, kdctest.AcceptorConfig{PerConnection: true}, kdctest.UpstreamConfig{})
	path := filepath.Join(s.Dir, "ccache")
	s.kinit(path, principal, s.Proxy)
	caddytest.Load(s.T, s.config("", proxying(p.Addr(),
		caddytest.Block("transport negotiate", "kdc "+s.KDC.Addr(), "ccache "+path, "spn "+service, "per_connection"),
		`header_down X-Account "{http.negotiate.principal}"`)))
	client := s.Client()
	seen := func(who string) bool {
		a, err := caddytest.Ask(client, s.Request(http.MethodGet, "/"))
		if err != nil || a.Status != http.StatusOK {
			t.Fatalf("%d %q, %v", a.Status, a.Body, err)
		}
		if account := a.Header.Get("X-Account"); a.Body != account+"\n" {
			t.Fatalf("the upstream saw %q, we went as %s", a.Body, account)
		}
		return a.Body == who+"\n"
	}
	for range 5 {
		if !seen(principal) {
			t.Fatalf("not %s", principal)
		}
	}
	if c := p.acceptor.Counts(); c.Persisted == 0 {
		t.Error("each request had a token")
	}
	s.kinit(path, "second@"+realmName, s.Realm.AddUser("second", "another secret"))
	caddytest.WaitFor(t, "the new cache is in use", func() bool { return seen("second@" + realmName) }) // the file is looked at once a second
	for range 5 {
		if !seen("second@" + realmName) {
			t.Fatal("not second")
		}
	}
}
