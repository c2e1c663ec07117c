package realms

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// The whole main job where FIPS 140 is enforced, which is decided when a process starts: this binary runs a test again.
func TestMIT_FIPS140(t *testing.T) {
	lab.Require(t, lab.KDC)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestMIT_SHA2KeysOnly$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestMIT_SHA2KeysOnly") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestMIT_SHA2KeysOnly(t *testing.T) {
	if wanted := strings.Contains(os.Getenv("GODEBUG"), "fips140=only"); fips140.Enforced() != wanted {
		t.Fatalf("enforced: %v, GODEBUG=%s", fips140.Enforced(), os.Getenv("GODEBUG"))
	}
	m := lab.StartMIT(t, lab.MITOptions{
		ETypes: []string{"aes256-cts-hmac-sha384-192", "aes128-cts-hmac-sha256-128"},
		Principals: []lab.Principal{
			{Name: "alice", Password: "alice-secret"}, {Name: "HTTP/app.lab.test"}, {Name: "host/proxy.lab.test", Flags: []string{"+requires_preauth"}},
		},
	})
	for _, how := range [][]string{
		{"keytab " + m.Keytab(t, "alice")},
		{"password alice-secret"},
		{"keytab " + m.Keytab(t, "alice"), "fast_armor keytab " + m.Keytab(t, "host/proxy.lab.test")},
	} {
		s := newSite(t, m.Keytab(t, "HTTP/app.lab.test"),
			append(how, "user alice@LAB.TEST", "kdc "+m.KDC(), "spn HTTP/app.lab.test", "mutual_auth required")...)
		s.Get("/").WantUser(t, "alice@LAB.TEST")
	}
	if n := m.Count(t, lab.Exchange{Client: "alice@LAB.TEST", Service: "HTTP/app.lab.test@LAB.TEST", Status: "ISSUE"}); n < 2 {
		t.Errorf("%d tickets, want one an account at least", n)
	}
}
