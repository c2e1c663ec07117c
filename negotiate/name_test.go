package negotiate_test

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/tests/identitytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// newCanonicalWorld returns one whose client requests canonicalization.
func newCanonicalWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, byKeytab)
	finder := identitytest.Servers(t, w.KDC.Addr())
	sender := must.OK(kdc.NewSender(kdc.Config{Finder: finder, HedgeDelay: time.Minute, ServerTimeout: time.Minute}))(t)
	client := must.OK(krb5core.NewClient(krb5core.Config{Sender: sender, Finder: finder, Timeout: time.Minute, Canonicalize: true}))(t)
	w.initiator = w.id.Initiator(negotiate.NewSettings("proxy", client))
	return w
}

// wantPrincipal compares the name of the identity, and how often a correction was reported.
func (w *world) wantPrincipal(name string, corrections int) {
	w.T.Helper()
	if got := w.id.Principal().Name.String(); got != name {
		w.T.Fatalf("the identity is %s, want %s", got, name)
	}
	if n := seen[negotiate.NameCorrected](w); n != corrections {
		w.T.Fatalf("%d reports of another name, want %d", n, corrections)
	}
	if got := w.id.Configured(); !got.Equal(w.Principal()) {
		w.T.Fatalf("the configured name became %s", got)
	}
}

func TestCanonicalize_Demanded(t *testing.T) {
	w := newCanonicalWorld(t)
	w.Realm.RequireCanonicalization()
	must.OK(w.initiator.Login(t.Context()))(t)
	_, err := w.id.Initiator(w.settings).Login(t.Context()) // without
	if code, ok := krb5core.Code(err); !ok || code != messages.KDC_ERR_C_PRINCIPAL_UNKNOWN {
		t.Errorf("without canonicalize: %v", err)
	}
}

// The name in the reply to a login is not authenticated: the identity takes it over when a ticket
// request has proved it.
func TestCanonicalize_OtherName(t *testing.T) {
	w := newCanonicalWorld(t)
	w.Proxy.Set(kdctest.CanonicalName("Proxy-Account"))
	for range 2 {
		tgt := must.OK(w.initiator.Login(t.Context()))(t)
		if tgt.Client() != "Proxy-Account@"+identitytest.Realm {
			t.Fatalf("the ticket-granting ticket is of %s", tgt.Client())
		}
	}
	w.wantPrincipal(identitytest.Account, 0)
	g := must.OK(w.initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever))(t)
	if g.Ticket.Client() != "Proxy-Account@"+identitytest.Realm {
		t.Errorf("the ticket is of %s", g.Ticket.Client())
	}
	w.wantPrincipal("Proxy-Account", 1)
	if _, ok := w.initiator.Held(&w.target); !ok {
		t.Error("the ticket is not found under the new name")
	}
	w.mustLogin()
	must.OK(w.initiator.Grant(t.Context(), identitytest.Target(t, identitytest.Service), negotiate.DelegateNever))(t)
	w.wantPrincipal("Proxy-Account", 1)
	// Another block of the configuration that does not request canonicalization.
	plain, canonical := w.id.Initiator(w.settings), w.initiator
	for _, i := range []*negotiate.Initiator{plain, canonical, plain, canonical} {
		w.Clock.Advance(11 * time.Hour)
		must.OK(i.Grant(t.Context(), &w.target, negotiate.DelegateNever))(t)
	}
	w.wantPrincipal("Proxy-Account", 1)
	if n := w.id.Flush(); n < 2 {
		t.Errorf("%d tickets are the identity's, want 2 or more", n)
	}
	if e := identitytest.Seen[negotiate.NameCorrected](w.Events)[0]; !e.Configured.Equal(w.Principal()) || e.Principal.Name.String() != "Proxy-Account" {
		t.Errorf("reported: %+v", e)
	}
}

// With the name of another client a ticket-granting ticket is useless, and replaced.
func TestCanonicalize_ForgedName(t *testing.T) {
	w := newCanonicalWorld(t)
	w.KDC.Use(kdctest.AS(kdctest.Times(2, kdctest.RenameClient("mallory"))))
	if tgt := must.OK(w.initiator.Login(t.Context()))(t); !strings.HasPrefix(tgt.Client(), "mallory@") {
		t.Fatalf("the ticket-granting ticket is of %s", tgt.Client())
	}
	w.wantPrincipal(identitytest.Account, 0)
	g := must.OK(w.initiator.Grant(t.Context(), &w.target, negotiate.DelegateNever))(t)
	if want := w.Principal().String(); g.Ticket.Client() != want {
		t.Errorf("the ticket is of %s, want %s", g.Ticket.Client(), want)
	}
	w.wantPrincipal(identitytest.Account, 0)
}
