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
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// kinit logs in and puts the ticket-granting ticket in the place of what is in the
// credential cache.
func (s *site) kinit(path, name string, p *kdctest.Principal) {
	s.t.Helper()
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	file, err := keytab.Parse(s.keysOf(p))
	must(err)
	who, err := krb5core.ParseUser(name, krb5core.UserForm{})
	must(err)
	keys, err := krb5core.KeytabKeys(file, who)
	must(err)
	server, err := kdc.ParseServer(s.kdc.Addr())
	must(err)
	finder := kdc.Static{realmName: {server}}
	sender, err := kdc.NewSender(kdc.Config{Finder: finder})
	must(err)
	client, err := krb5core.NewClient(krb5core.Config{Sender: sender, Finder: finder})
	must(err)
	tgt, err := client.Login(s.t.Context(), krb5core.NewAccount(who, keys, nil))
	must(err)
	cache := &ccache.CCache{Version: 4, DefaultPrincipal: tgt.Client, Credentials: []messages.Credential{*tgt}}
	content, err := cache.Marshal()
	must(err)
	must(os.Rename(s.write(filepath.Base(path)+".new", content), path))
}

// A connection that stands for the principal before is not that of who comes after.
func TestTransportPartsTheConnectionsOfACredentialCachesOwners(t *testing.T) {
	s := newSite(t, setup{})
	p := s.serve(service, kdctest.AcceptorConfig{PerConnection: true}, kdctest.UpstreamConfig{})
	path := filepath.Join(s.folder, "ccache")
	s.kinit(path, principal, s.proxy)
	s.mustLoad(s.config("", proxying(p.Addr(),
		block("transport negotiate", "kdc "+s.kdc.Addr(), "ccache "+path, "spn "+service, "per_connection"),
		`header_down X-Account "{http.negotiate.principal}"`)))
	client := s.client()
	seen := func(who string) bool {
		a, err := ask(client, s.request(http.MethodGet, "/"))
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("%d %q, %v", a.status, a.body, err)
		}
		if account := a.header.Get("X-Account"); a.body != account+"\n" {
			t.Fatalf("the upstream saw %q, we went as %s", a.body, account)
		}
		return a.body == who+"\n"
	}
	for range 5 {
		if !seen(principal) {
			t.Fatalf("not %s", principal)
		}
	}
	if c := p.acceptor.Counts(); c.Persisted == 0 {
		t.Error("each request had a token")
	}
	s.kinit(path, "second@"+realmName, s.realm.AddUser("second", "another secret"))
	within(t, func() bool { return seen("second@" + realmName) }) // the file is looked at once a second
	for range 5 {
		if !seen("second@" + realmName) {
			t.Fatal("not second")
		}
	}
}
