//go:build trixie

package delegation

import (
	"net/http"
	"testing"
)

// What Samba has since 4.19: resource-based delegation.
// The script samba-trixie runs this.
func TestSambaResourceBasedDelegation(t *testing.T) {
	d := newDomain(t, "iis2.corp.test")
	// The list is the service's: whoever runs it says who may bring users.
	d.samba.Tool(t, "delegation", "add-principal", "svc-iis2", "svc-plain")
	d.run("svc-plain", "spn HTTP/iis2.corp.test", byHeader)
	// Unlike Windows, Samba wants forwardable evidence here too.
	d.get("/echo", as("frank")).wantError(t, http.StatusForbidden, "delegation_refused", "13")
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
			d.front = newFront(t)
			d.run(row.account, "spn HTTP/iis2.corp.test", byHeader)
			a := d.get("/echo", as(row.user))
			if row.status != http.StatusOK {
				a.wantError(t, row.status, row.name, row.code)
			} else if a.status != http.StatusOK || a.remoteUser() != row.name+"@CORP.TEST" {
				t.Error(a)
			}
		})
	}
}
