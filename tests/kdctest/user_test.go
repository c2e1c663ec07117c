package kdctest_test

import (
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestUser(t *testing.T) {
	s := newSite(t, kdctest.AcceptorConfig{}, kdctest.UpstreamConfig{})
	if _, err := kdctest.Login(t.Context(), s.kdc.Addr(), "alice@CORP.EXAMPLE", "wrong"); err == nil {
		t.Error("a wrong password logs in")
	}
	alice, err := kdctest.Login(t.Context(), s.kdc.Addr(), "alice@CORP.EXAMPLE", "secret")
	if err != nil {
		t.Fatal(err)
	}
	file, err := alice.CCache()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := ccache.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	if tgt := cache.TGT("CORP.EXAMPLE", time.Now()); tgt == nil || tgt.Client.String() != "alice@CORP.EXAMPLE" || tgt.Flags&messages.TKT_FLG_FORWARDABLE == 0 {
		t.Errorf("the cache has %v", tgt)
	}
	ticket, err := alice.Ticket(t.Context(), s.web.Name())
	if err != nil {
		t.Fatal(err)
	}
	token, err := kdctest.Authenticator{}.Token(ticket)
	if err != nil {
		t.Fatal(err)
	}
	if peer, _, err := s.acceptor.Accept(token, nil); err != nil || peer.Principal != "alice@CORP.EXAMPLE" {
		t.Errorf("the acceptor sees %v, %v", peer, err)
	}
}
