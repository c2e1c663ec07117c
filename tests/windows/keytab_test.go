package windows

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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

// The command of docs/windows.md that makes the service: what it registers is run. Wine's service
// manager cannot start Caddy: a service of Windows is in session 0, and Wine has all programs in
// session 1.
func TestService(t *testing.T) {
	s := newSite(t, "caddy")
	s.write("alice.keytab", must.OK(os.ReadFile(s.KDC.Keytab(t, "alice")))(t))
	s.write("Caddyfile", s.config(s.block(s.Addr, "kdc "+s.KDC.KDC(), "use_tcp", "user alice@"+realm, "spn HTTP/"+host, `keytab C:\caddy\alice.keytab`)))
	s.write("caddy.exe", must.OK(os.ReadFile(caddyBinary(t)))(t))
	page := string(must.OK(os.ReadFile(filepath.Join(root(t), "docs/windows.md")))(t))
	line := regexp.MustCompile(`(?m)^sc\.exe create caddy (start=) (auto) (binPath=) "(.*)"$`).FindStringSubmatch(page)
	if line == nil {
		t.Fatal("docs/windows.md does not create the service")
	}
	if out, err := s.Wine.Run(nil, "sc", append([]string{"create", "caddy"}, line[1:]...)...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	registered := must.OK(s.Wine.Run(nil, "reg", "query", `HKLM\System\CurrentControlSet\Services\caddy`, "/v", "ImagePath"))(t)
	found := regexp.MustCompile(`ImagePath\s+REG_(?:EXPAND_)?SZ\s+(.*?)\r?\n`).FindStringSubmatch(registered)
	if found == nil || found[1] != line[4] {
		t.Fatalf("registered is %q, want %q", registered, line[4])
	}
	// Wine would start it with its own services, and wait a minute for it.
	if out, err := s.Wine.Run(nil, "sc", "delete", "caddy"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program := strings.Fields(found[1])
	s.Caddy = s.Wine.Start(t, filepath.Join(s.Dir, "service.log"), nil, program[0], program[1:]...)
	s.Caddy.Ready(t, "serving initial configuration")
	if a := s.get(s.Addr, "/"); !isUser("alice@" + realm)(a) {
		t.Errorf("%v as %q", a, userOf(a))
	}
}
