package delegation

import (
	"net/http"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// What Windows' KDC allows and Samba 4.17 has not, over kdctest, which has its rules.
func TestWindowsDelegationRules(t *testing.T) {
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
			c := newCorp(t, setup{proxy: row.proxy})
			c.realm.Principal("alice").Set(kdctest.With(row.alice))
			if row.web != nil {
				c.web.Set(row.web)
			}
			c.run()
			if row.code != "" {
				c.as("alice").wantError(t, http.StatusForbidden, "delegation_refused", row.code)
				return
			}
			c.as("alice").wantUser(t, "alice@"+corpRealm)
		})
	}
}

func TestAccountsInTrouble(t *testing.T) {
	c := newCorp(t, setup{})
	c.run()
	for name, flag := range map[string]kdctest.Flags{"disabled": kdctest.Disabled, "locked": kdctest.Locked, "expired": kdctest.Expired} {
		c.realm.AddUser(name, "x", kdctest.With(flag))
		c.as(name).wantError(t, http.StatusForbidden, "user_denied", "18")
	}
	c.as("nobody").wantError(t, http.StatusForbidden, "user_unknown", "6")
	c.as("nobody@mail.example").wantError(t, http.StatusForbidden, "user_unknown", "6")
	c.realm.Principal("bob").Set(kdctest.Alias("bobby")) // only of UPNs the KDC may make another name
	c.as("bobby").wantError(t, http.StatusForbidden, "user_unknown", "")
	c.as("a/b").wantError(t, http.StatusForbidden, "user_unknown", "")
	c.kdc.Use(kdctest.TGS(kdctest.Fail(messages.KDC_ERR_POLICY)))
	c.as("bob").wantError(t, http.StatusForbidden, "user_denied", "12")
	c.kdc.ClearFaults()
	c.kdc.Stop()
	if a := c.as("carol"); a.status != http.StatusServiceUnavailable || a.header.Get("X-Error") != "kdc_unreachable" || a.header.Get("Retry-After") == "" {
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

func TestUsersOfATrustedRealm(t *testing.T) {
	other, _ := otherRealm()
	c := newCorp(t, setup{realms: []*kdctest.Realm{other}})
	c.realm.MapSuffix("branch.example", "BRANCH.EXAMPLE")
	load := func(more ...string) {
		c.load(block("kerberos", block("realm BRANCH.EXAMPLE", "kdc "+c.kdc.Addr(), "netbios BRANCH")),
			block("reverse_proxy "+c.upstream.Addr(), c.transport(append([]string{"spn " + webSPN, byHeader}, more...)...)))
	}
	load()
	// Evidence of another realm's user is forwardable, and serves the list of targets.
	c.as(`BRANCH\eve`).wantUser(t, "eve@BRANCH.EXAMPLE")
	c.as(`branch.example\eve`).wantUser(t, "eve@BRANCH.EXAMPLE")
	c.as("eve@branch.example").wantUser(t, "eve@BRANCH.EXAMPLE")
	c.as(`BRANCH\alice`).wantUser(t, "alice@BRANCH.EXAMPLE")
	c.as("alice").wantUser(t, "alice@"+corpRealm)
	c.as("eve").wantError(t, http.StatusForbidden, "user_unknown", "6")
	c.as(`NOWHERE\eve`).wantError(t, http.StatusForbidden, "user_unknown", "7")
	load("user_realm BRANCH.EXAMPLE")
	c.as("eve").wantUser(t, "eve@BRANCH.EXAMPLE")
	c.as("alice").wantUser(t, "alice@BRANCH.EXAMPLE")
	c.as(`CORP.EXAMPLE\alice`).wantUser(t, "alice@"+corpRealm)
	// A bare name in allow_users is one of user_realm.
	load("user_realm BRANCH.EXAMPLE", "allow_users alice")
	c.as("alice").wantUser(t, "alice@BRANCH.EXAMPLE")
	c.as(`CORP.EXAMPLE\alice`).wantError(t, http.StatusForbidden, "user_denied", "")
	load("deny_users alice")
	c.as("alice").wantError(t, http.StatusForbidden, "user_denied", "")
	c.as(`BRANCH\alice`).wantError(t, http.StatusForbidden, "user_denied", "")
	load(`deny_users BRANCH\alice`)
	c.as(`branch.example\alice`).wantError(t, http.StatusForbidden, "user_denied", "")
	c.as("alice").wantUser(t, "alice@"+corpRealm)
}

// Resource-based delegation reaches into other realms, which the other kind does not.
func TestServicesOfATrustedRealm(t *testing.T) {
	other, web := otherRealm()
	c := newCorp(t, setup{realms: []*kdctest.Realm{other}})
	c.realm.MapDomain(".branch.example", "BRANCH.EXAMPLE")
	_, upstream := startUpstream(t, kdctest.AcceptorConfig{Keytab: keysOf(t, other, web)}, kdctest.UpstreamConfig{})
	c.load(block("kerberos", block("realm BRANCH.EXAMPLE", "kdc "+c.kdc.Addr(), "domains .branch.example", "netbios BRANCH")),
		block("reverse_proxy "+upstream.Addr(), c.transport("spn HTTP/web.branch.example", byHeader)))
	for range 2 {
		c.as("alice").wantUser(t, "alice@"+corpRealm)
		c.as(`BRANCH\eve`).wantUser(t, "eve@BRANCH.EXAMPLE")
	}
	web.Set(kdctest.ActFor("bob@" + corpRealm))
	c.as("bob").wantError(t, http.StatusForbidden, "delegation_refused", "13")
}
