package faults

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

// TableEnv names the environment variable with the file that the table of faults is
// written to.
const TableEnv = "CADDY_NEGOTIATE_FAULTS"

// fault is a row of the table: what goes wrong, what a user sees of it, and the test.
type fault struct {
	what, asserted string
	run            func(t *testing.T)
}

func TestFaults(t *testing.T) {
	var table strings.Builder
	row := func(what, asserted, result string) {
		fmt.Fprintf(&table, "%-44s | %-92s | %s\n", what, asserted, result)
	}
	row("fault", "asserted", "result")
	for _, faults := range [][]fault{kdcFaults, upstreamFaults, storageFaults, localFaults} {
		for _, f := range faults {
			result := "ok"
			if !t.Run(f.what, f.run) {
				result = "FAILED"
			}
			row(f.what, f.asserted, result)
		}
	}
	t.Logf("the faults:\n%s", table.String())
	if path := os.Getenv(TableEnv); path != "" {
		if err := os.WriteFile(path, []byte(table.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// newWarmEnv holds a ticket for the first site, and none for the second, which has
// another account and further lines.
func newWarmEnv(t *testing.T, more ...string) *env {
	e := newEnv(t)
	e.load(e.usual("trace"), e.secondAccount(append(more, "trace")...))
	e.wantServed()
	e.KDC.ResetCounts()
	return e
}

const secondPrincipal = "svc-second@" + realmName

// secondAccount is the block of a site of another account.
func (e *env) secondAccount(more ...string) string {
	keytab := e.Write("second.keytab", e.KeysOf(e.Realm.AddUser("svc-second", "another secret")))
	return caddytest.Lines(append([]string{
		"kdc " + e.KDC.Addr(), "user " + secondPrincipal, "keytab " + keytab, "spn " + service, "login_at_start off",
	}, more...)...)
}

// wantSecond fails unless the second site serves.
func (e *env) wantSecond() {
	e.T.Helper()
	e.getAt(1).WantUser(e.T, secondPrincipal)
}

// awaitSecond waits until the second site serves.
func (e *env) awaitSecond() {
	e.T.Helper()
	caddytest.WaitFor(e.T, "the second site serves again", func() bool { return e.getAt(1).IsUser(secondPrincipal) })
}

// sent counts the messages that were sent to KDCs, from the log: a KDC counts those
// that arrive, which may be later than the request was answered by another way.
func (e *env) sent() int { return e.Log.Count(`"kdc message sent"`) }

// wantHeld fails unless the first site serves without a message to the KDC.
func (e *env) wantHeld() {
	e.T.Helper()
	before := e.sent()
	if a := e.wantServed(); a.Source() != "cache" {
		e.T.Fatalf("the ticket came from %s", a.Source())
	}
	if before == 0 || e.sent() != before {
		e.T.Fatalf("the KDC was sent %d messages, %d before", e.sent(), before)
	}
}
