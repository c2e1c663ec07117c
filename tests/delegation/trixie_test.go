//go:build trixie

package delegation

import (
	"net/http"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

// What Samba has since 4.19: resource-based delegation.
// The script samba-trixie runs this.
func TestSamba_ResourceBased(t *testing.T) {
	d := newDomain(t, "iis2.corp.test")
	// The list belongs to the service: its administrator says which accounts may impersonate users.
	d.samba.Tool(t, "delegation", "add-principal", "svc-iis2", "svc-plain")
	d.run("svc-plain", "spn HTTP/iis2.corp.test", byHeader)
	// Unlike Windows, Samba wants forwardable evidence here too.
	d.Get("/echo", asUser("frank")).WantError(t, http.StatusForbidden, "delegation_refused", "13")
	d.samba.Tool(t, "delegation", "for-any-protocol", "svc-plain", "on")
	for _, row := range []struct {
		what, account, user string
		status              int
		name, code          string
	}{
		{"listed", "svc-plain", "alice", 200, "alice", ""},
		{"listed, for another user", "svc-plain", "bob", 200, "bob", ""},
		{"not listed", "svc-kcd", "alice", 403, "delegation_refused", "13"},
		{"sensitive user", "svc-plain", "carol", 403, "delegation_refused", "13"},
		// A domain of Samba's usual functional level, 2008 R2, does not know Protected Users.
		{"protected user", "svc-plain", "dave", 200, "dave", ""},
	} {
		t.Run(row.what, func(t *testing.T) {
			d := *d
			d.Caddy = caddytest.New(t)
			d.run(row.account, "spn HTTP/iis2.corp.test", byHeader)
			a := d.Get("/echo", asUser(row.user))
			if row.status != http.StatusOK {
				a.WantError(t, row.status, row.name, row.code)
			} else if a.Status != http.StatusOK || remoteUser(a) != row.name+"@CORP.TEST" {
				t.Error(a)
			}
		})
	}
}

// Resource-based delegation with the user's own ticket needs no right of the proxy's account.
func TestSamba_ResourceBasedByTicket(t *testing.T) {
	const fatSPN = "HTTP/fat.corp.test"
	d := newDomain(t, "iis2.corp.test")
	d.samba.Tool(t, "delegation", "add-principal", "svc-iis2", "svc-fat")
	d.runSignedIn("svc-fat", fatSPN, "spn HTTP/iis2.corp.test")
	for _, row := range []struct {
		user   string
		status int
	}{{"alice", http.StatusOK}, {"bob", http.StatusOK}, {"carol", http.StatusForbidden}} {
		user := d.user(row.user, fatSPN)
		a := d.Get("/echo", user.SignIn)
		switch {
		case row.status != http.StatusOK:
			a.WantError(t, row.status, "delegation_refused", "13")
		case a.Status != http.StatusOK || remoteUser(a) != row.user+"@CORP.TEST":
			t.Errorf("%s: %v", row.user, a)
		}
	}
	d.runSignedIn("svc-kcd", kcdSPN, "spn HTTP/iis2.corp.test")
	user := d.user("alice", kcdSPN)
	d.Get("/echo", user.SignIn).WantError(t, http.StatusForbidden, "delegation_refused", "13")
}
