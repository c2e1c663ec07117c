package lab

import (
	"fmt"
	"strings"
	"testing"
)

// recorder is a test that only records its result.
type recorder struct {
	testing.TB
	failed, skipped string
}

func (r *recorder) Helper()                           {}
func (r *recorder) Fatalf(format string, args ...any) { r.failed = fmt.Sprintf(format, args...) }
func (r *recorder) Skipf(format string, args ...any)  { r.skipped = fmt.Sprintf(format, args...) }

func TestRequire(t *testing.T) {
	none := Peer{name: "nothing", packages: "no-such-package", needs: []string{"no-such-program"}}
	r := &recorder{TB: t}
	t.Setenv(RequirePeersEnv, "")
	Require(r, none)
	if want := "LEFT OUT: nothing (no-such-program is not there, Debian: no-such-package)"; r.skipped != want || r.failed != "" {
		t.Errorf("skipped: %q, failed: %q; want skipped: %q", r.skipped, r.failed, want)
	}
	r = &recorder{TB: t}
	t.Setenv(RequirePeersEnv, "1")
	Require(r, none)
	if !strings.HasPrefix(r.failed, "LEFT OUT: nothing") {
		t.Errorf("with %s it fails with %q", RequirePeersEnv, r.failed)
	}
	r = &recorder{TB: t}
	Require(r, Peer{needs: []string{"sh", "/bin/*sh"}})
	if r.failed != "" || r.skipped != "" {
		t.Errorf("an installed peer: %q, %q", r.failed, r.skipped)
	}
}

func TestParseExchange(t *testing.T) {
	const types = "(2 etypes {aes256-cts-hmac-sha1-96(18), DEPRECATED:arcfour-hmac(23)}) 127.0.0.1: "
	const who = "alice@LAB.TEST for HTTP/app.lab.test@LAB.TEST"
	for line, want := range map[string]Exchange{
		"Nov 20 08:04:03 kdc krb5kdc[1](info): TGS_REQ " + types + "ISSUE: authtime 1795161843, etypes {rep=aes256-cts-hmac-sha1-96(18), tkt=DEPRECATED:arcfour-hmac(23), ses=aes128-cts-hmac-sha1-96(17)}, " + who: {
			Kind: "TGS_REQ", Status: "ISSUE", Client: "alice@LAB.TEST", Service: "HTTP/app.lab.test@LAB.TEST",
			Rep: "aes256-cts-hmac-sha1-96(18)", Tkt: "DEPRECATED:arcfour-hmac(23)", Ses: "aes128-cts-hmac-sha1-96(17)",
		},
		"AS_REQ " + types + "NEEDED_PREAUTH: " + who + ", Additional pre-authentication required": {
			Kind: "AS_REQ", Status: "NEEDED_PREAUTH", Client: "alice@LAB.TEST", Service: "HTTP/app.lab.test@LAB.TEST",
			Error: "Additional pre-authentication required",
		},
		"TGS_REQ " + types + "PROCESS_TGS: authtime 0, etypes {rep=UNSUPPORTED:(0)} <unknown client> for HTTP/app.lab.test@LAB.TEST, Clock skew too great": {
			Kind: "TGS_REQ", Status: "PROCESS_TGS", Client: "<unknown client>", Service: "HTTP/app.lab.test@LAB.TEST",
			Rep: "UNSUPPORTED:(0)", Error: "Clock skew too great",
		},
	} {
		if got, ok := parseExchange(line); !ok || got != want {
			t.Errorf("%s\nis %+v\nwant %+v", line, got, want)
		}
	}
	if x, ok := parseExchange("krb5kdc[1](info): closing down fd 9"); ok {
		t.Errorf("not a request: %+v", x)
	}
}
