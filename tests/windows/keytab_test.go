package windows

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// Wine has no datagrams that Go can use: use_tcp.
func TestKeytab(t *testing.T) {
	s := newSite(t, "keytab")
	s.write("alice.keytab", must.OK(os.ReadFile(s.KDC.Keytab(t, "alice")))(t))
	backslashes := caddytest.FreeAddress(t)
	lines := []string{"kdc " + s.KDC.KDC(), "use_tcp", "user alice@" + realm, "spn HTTP/" + host, "mutual_auth required"}
	s.run(s.config(
		s.block(s.Addr, append(lines, "keytab C:/keytab/alice.keytab")...),
		s.block(backslashes, append(lines, `keytab C:\keytab\alice.keytab`)...),
	))
	if a := s.get(backslashes, "/"); !isUser("alice@" + realm)(a) {
		t.Fatalf("%v as %q", a, userOf(a))
	}
	caddytest.All(t, 1000, 16, func(int) error {
		a, err := s.ask(s.Addr, "/")
		if err == nil && !isUser("alice@"+realm)(a) {
			err = fmt.Errorf("%v as %q", a, userOf(a))
		}
		return err
	})

	// The password is changed, and the keytab replaced while Caddy runs.
	s.KDC.Kadmin(t, `cpw -pw "another password" alice`)
	s.write("alice.keytab", must.OK(os.ReadFile(s.KDC.Keytab(t, "alice")))(t))
	if out, err := s.command(nil, "flush", "--address", s.Admin); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if a := s.get(s.Addr, "/"); !isUser("alice@" + realm)(a) {
		t.Fatalf("with the new keytab: %v as %q", a, userOf(a))
	}
	if !strings.Contains(s.Caddy.Output(t), "credentials have changed") {
		t.Error("the log does not say that the keytab was read again")
	}
	if out, err := s.command(nil, "check", "--config", `C:\keytab\Caddyfile`); err != nil || !strings.Contains(out, "OK") {
		t.Errorf("check: %v\n%s", err, out)
	}
}

// The commands of docs/windows.md, as far as Wine goes.
func TestService(t *testing.T) {
	s := newSite(t, "service")
	s.write("alice.keytab", must.OK(os.ReadFile(s.KDC.Keytab(t, "alice")))(t))
	s.write("caddy.exe", must.OK(os.ReadFile(caddyBinary(t)))(t))
	s.write("Caddyfile", s.config(s.block(s.Addr, "kdc "+s.KDC.KDC(), "use_tcp", "user alice@"+realm, "spn HTTP/"+host, "keytab C:/service/alice.keytab")))
	sc := func(args ...string) string {
		t.Helper()
		return must.OK(s.Wine.Run(nil, "sc", args...))(t)
	}
	sc("create", "caddy", "start=", "auto", "binPath=", `C:\service\caddy.exe run --config C:\service\Caddyfile`)
	t.Cleanup(func() { _, _ = s.Wine.Run(nil, "sc", "delete", "caddy") })
	sc("start", "caddy")
	t.Cleanup(func() { _, _ = s.Wine.Run(nil, "sc", "stop", "caddy") })
	caddytest.WaitFor(t, "the service serves", func() bool {
		a, err := s.ask(s.Addr, "/")
		return err == nil && a.Status == http.StatusOK && userOf(a) == "alice@"+realm
	})
	sc("stop", "caddy")
	caddytest.WaitFor(t, "the service has ended", func() bool {
		_, err := s.ask(s.Addr, "/")
		return err != nil
	})
}
