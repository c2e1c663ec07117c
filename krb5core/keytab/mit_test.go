package keytab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// mitTool finds a program of MIT's krb5-user. Without that peer there is
// nothing to compare with.
func mitTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("LEFT OUT: MIT's %s (Debian: krb5-user)", name)
	}
	if out, err := exec.Command("klist", "-V").CombinedOutput(); err != nil || !strings.Contains(string(out), "Kerberos 5 version") {
		t.Skipf("LEFT OUT: MIT's %s (another one is on PATH)", name)
	}
	return path
}

// emptyConfig keeps the machine's krb5.conf out.
func emptyConfig(t *testing.T) []string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "krb5.conf")
	if err := os.WriteFile(name, []byte("[libdefaults]\n default_realm = R\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return append(os.Environ(), "KRB5_CONFIG="+name, "LC_ALL=C")
}

func TestMITListsWhatWeWrite(t *testing.T) {
	klist := mitTool(t, "klist")
	k := &Keytab{Entries: []Entry{
		entry(t, "HTTP/web.example.com@EXAMPLE.COM", enctype.AES256_CTS_HMAC_SHA1_96, 300, 1500000000, 'A'),
		entry(t, "HTTP/web.example.com@EXAMPLE.COM", enctype.AES128_CTS_HMAC_SHA256_128, 300, 1500000000, 'B'),
		entry(t, "müller@EXAMPLE.COM", enctype.RC4_HMAC, 1, 0, 'C'),
		entry(t, "WEB01$@EXAMPLE.COM", enctype.CAMELLIA256_CTS_CMAC, 255, 4000000000, 'D'),
	}}
	b, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "keytab")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(klist, "-k", "-e", "-K", name)
	cmd.Env = emptyConfig(t)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got []string
	for _, line := range strings.Split(string(out), "\n")[3:] {
		if line != "" {
			got = append(got, strings.Join(strings.Fields(strings.ReplaceAll(line, "DEPRECATED:", "")), " "))
		}
	}
	want := []string{
		"300 HTTP/web.example.com@EXAMPLE.COM (aes256-cts-hmac-sha1-96) (0x" + strings.Repeat("41", 32) + ")",
		"300 HTTP/web.example.com@EXAMPLE.COM (aes128-cts-hmac-sha256-128) (0x" + strings.Repeat("42", 16) + ")",
		"1 müller@EXAMPLE.COM (arcfour-hmac) (0x" + strings.Repeat("43", 16) + ")",
		"255 WEB01$@EXAMPLE.COM (camellia256-cts-cmac) (0x" + strings.Repeat("44", 32) + ")",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWeReadWhatKtutilWrites(t *testing.T) {
	ktutil, klist := mitTool(t, "ktutil"), mitTool(t, "klist")
	name := filepath.Join(t.TempDir(), "keytab")
	cmd := exec.Command(ktutil)
	cmd.Env = emptyConfig(t)
	cmd.Stdin = strings.NewReader("addent -password -p HTTP/a.b@R -k 258 -e aes128-cts\nsecret\n" +
		"addent -password -p x@R -k 2 -e aes256-sha2\nsecret\nwkt " + name + "\nquit\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	k, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(klist, "-k", "-K", name)
	cmd.Env = emptyConfig(t)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got, want []string
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n")[3:] {
		want = append(want, strings.Join(strings.Fields(line), " "))
	}
	for _, s := range show(k) {
		got = append(got, fmt.Sprintf("%d %s (0x%s)", s.KVNO, s.Principal, s.Key))
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) != 2 {
		t.Errorf("%d entries, klist's differ: %s", len(got), diff)
	}
	again, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, again); diff != "" {
		t.Errorf("written again it differs:\n%s", diff)
	}
}
