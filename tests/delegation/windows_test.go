package delegation

import (
	"net/http"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// What Windows' KDC allows and Samba 4.17 has not, over kdctest, which has its rules.
func TestWindows_DelegationRules(t *testing.T) {
	spn, list := kdctest.SPN(proxySPN), kdctest.DelegateTo(webSPN)
	transition := kdctest.With(kdctest.TrustedToAuth)
	listed := kdctest.ActFor("svc-proxy")
	for _, row := range []struct {
		what  string
		proxy []kdctest.Option
		web   kdctest.Option
		alice kdctest.Flags
		code  string // of the refusal
	}{
		{what: "protocol transition", proxy: []kdctest.Option{spn, list, transition}},
		{what: "list without protocol transition", proxy: []kdctest.Option{spn, list}, code: "13"},
		{what: "no list", proxy: []kdctest.Option{spn, transition}, code: "13"},
		{what: "sensitive user", proxy: []kdctest.Option{spn, list, transition}, alice: kdctest.NotDelegable, code: "13"},
		{what: "protected user", proxy: []kdctest.Option{spn, list, transition}, alice: kdctest.Protected, code: "13"},
		{what: "resource-based", proxy: []kdctest.Option{spn}, web: listed},
		{what: "resource-based by the service principal", proxy: []kdctest.Option{spn}, web: kdctest.ActFor(proxySPN)},
		{what: "resource-based, evidence not forwardable", proxy: []kdctest.Option{spn, kdctest.DelegateTo("HTTP/elsewhere")}, web: listed},
		{what: "resource-based, others listed", proxy: []kdctest.Option{spn}, web: kdctest.ActFor("bob"), code: "13"},
		{what: "resource-based, sensitive user", proxy: []kdctest.Option{spn}, web: listed, alice: kdctest.NotDelegable, code: "13"},
		{what: "resource-based, protected user", proxy: []kdctest.Option{spn}, web: listed, alice: kdctest.Protected, code: "13"},
		{what: "no service principal", proxy: []kdctest.Option{transition}, code: "7"},
	} {
		t.Run(row.what, func(t *testing.T) {
			e := newEnv(t, caddytest.Options{Proxy: row.proxy})
			e.Realm.Principal("alice").Set(kdctest.With(row.alice))
			if row.web != nil {
				e.Web.Set(row.web)
			}
			e.run()
			if row.code != "" {
				e.getAs("alice").WantError(t, http.StatusForbidden, "delegation_refused", row.code)
				return
			}
			e.getAs("alice").WantUser(t, "alice@"+corpRealm)
		})
	}
}

func TestWindows_AccountStates(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	e.run()
	for name, flag := range map[string]kdctest.Flags{"disabled": kdctest.Disabled, "locked": kdctest.Locked, "expired": kdctest.Expired} {
		e.Realm.AddUser(name, "x", kdctest.With(flag))
		e.getAs(name).WantError(t, http.StatusForbidden, "user_denied", "18")
	}
	e.getAs("nobody").WantError(t, http.StatusForbidden, "user_unknown", "6")
	e.getAs("nobody@mail.example").WantError(t, http.StatusForbidden, "user_unknown", "6")
	e.Realm.Principal("bob").Set(kdctest.Alias("bobby")) // only of UPNs the KDC may make another name
	e.getAs("bobby").WantError(t, http.StatusForbidden, "user_unknown", "")
	e.getAs("a/b").WantError(t, http.StatusForbidden, "user_unknown", "")
	e.KDC.Use(kdctest.TGS(kdctest.Fail(messages.KDC_ERR_POLICY)))
	e.getAs("bob").WantError(t, http.StatusForbidden, "user_denied", "12")
	e.KDC.ClearFaults()
	e.KDC.Stop()
	if a := e.getAs("carol"); a.Status != http.StatusServiceUnavailable || a.Header.Get("X-Error") != "kdc_unreachable" || a.Header.Get("Retry-After") == "" {
		t.Errorf("without a KDC: %v", a)
	}
}

// otherRealm is a realm that CORP.EXAMPLE trusts, with a user and a web server.
func otherRealm() (*kdctest.Realm, *kdctest.Principal) {
	other := kdctest.NewRealm("BRANCH.EXAMPLE")
	other.IgnoreCase()
	other.AddUser("eve", "x", kdctest.Alias("eve@branch.example"))
	other.AddUser("alice", "x")
	return other, other.AddService("HTTP/web.branch.example", kdctest.ActFor(proxyName))
}

func TestTrust_Users(t *testing.T) {
	other, _ := otherRealm()
	e := newEnv(t, caddytest.Options{Trusts: []*kdctest.Realm{other}})
	e.Realm.MapSuffix("branch.example", "BRANCH.EXAMPLE")
	load := func(more ...string) {
		load(&e.Caddy, caddytest.Block("kerberos", caddytest.Block("realm BRANCH.EXAMPLE", "kdc "+e.KDC.Addr(), "netbios BRANCH")),
			caddytest.Block("reverse_proxy "+e.Upstream.Addr(), e.transport(append([]string{"spn " + webSPN, byHeader}, more...)...)))
	}
	load()
	// Evidence of another realm's user is forwardable, and serves the list of targets.
	e.getAs(`BRANCH\eve`).WantUser(t, "eve@BRANCH.EXAMPLE")
	e.getAs(`branch.example\eve`).WantUser(t, "eve@BRANCH.EXAMPLE")
	e.getAs("eve@branch.example").WantUser(t, "eve@BRANCH.EXAMPLE")
	e.getAs(`BRANCH\alice`).WantUser(t, "alice@BRANCH.EXAMPLE")
	e.getAs("alice").WantUser(t, "alice@"+corpRealm)
	e.getAs("eve").WantError(t, http.StatusForbidden, "user_unknown", "6")
	e.getAs(`NOWHERE\eve`).WantError(t, http.StatusForbidden, "user_unknown", "7")
	load("user_realm BRANCH.EXAMPLE")
	e.getAs("eve").WantUser(t, "eve@BRANCH.EXAMPLE")
	e.getAs("alice").WantUser(t, "alice@BRANCH.EXAMPLE")
	e.getAs(`CORP.EXAMPLE\alice`).WantUser(t, "alice@"+corpRealm)
	// A bare name in allow_users is one of user_realm.
	load("user_realm BRANCH.EXAMPLE", "allow_users alice")
	e.getAs("alice").WantUser(t, "alice@BRANCH.EXAMPLE")
	e.getAs(`CORP.EXAMPLE\alice`).WantError(t, http.StatusForbidden, "user_denied", "")
	load("deny_users alice")
	e.getAs("alice").WantError(t, http.StatusForbidden, "user_denied", "")
	e.getAs(`BRANCH\alice`).WantError(t, http.StatusForbidden, "user_denied", "")
	load(`deny_users BRANCH\alice`)
	e.getAs(`branch.example\alice`).WantError(t, http.StatusForbidden, "user_denied", "")
	e.getAs("alice").WantUser(t, "alice@"+corpRealm)
}

// Resource-based delegation reaches into other realms, which the other kind does not.
func TestTrust_Services(t *testing.T) {
	other, web := otherRealm()
	e := newEnv(t, caddytest.Options{Trusts: []*kdctest.Realm{other}})
	e.Realm.MapDomain(".branch.example", "BRANCH.EXAMPLE")
	_, upstream := caddytest.StartUpstream(t, kdctest.AcceptorConfig{Keytab: caddytest.KeysOf(t, other, web)}, kdctest.UpstreamConfig{})
	load(&e.Caddy, caddytest.Block("kerberos", caddytest.Block("realm BRANCH.EXAMPLE", "kdc "+e.KDC.Addr(), "domains .branch.example", "netbios BRANCH")),
		caddytest.Block("reverse_proxy "+upstream.Addr(), e.transport("spn HTTP/web.branch.example", byHeader)))
	for range 2 {
		e.getAs("alice").WantUser(t, "alice@"+corpRealm)
		e.getAs(`BRANCH\eve`).WantUser(t, "eve@BRANCH.EXAMPLE")
	}
	web.Set(kdctest.ActFor("bob@" + corpRealm))
	e.getAs("bob").WantError(t, http.StatusForbidden, "delegation_refused", "13")
}
