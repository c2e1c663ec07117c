package docs

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// kerberosCommand is `caddy kerberos` with its subcommands.
func kerberosCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "kerberos"}
	caddycmd.Commands()["kerberos"].CobraFunc(cmd)
	return cmd
}

// kerberos runs `caddy kerberos` in this process.
func kerberos(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := kerberosCommand()
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	if err := cmd.Execute(); err != nil {
		t.Fatalf("caddy kerberos %v: %v\n%s", args, err, out.String())
	}
	return out.String()
}

// What the page says, done word for word in a domain of Samba's, whose names differ.
func TestGettingStarted(t *testing.T) {
	lab.Require(t, lab.AD, lab.HTTPD)
	const page = "docs/getting-started.md"
	b := readBook(t)
	domain := lab.SharedSamba(t)
	domain.Tool(t, "user", "create", "svc-started", "Started-secret-1")
	iis := lab.StartApache(t, lab.ApacheOptions{Realm: domain, Hosts: []string{"iis.corp.test"}})
	e := &env{t: t, folder: newFolder(t), dns: caddytest.StartDNS(t, nil)}
	e.folder.put("svc-proxy.password", []byte("Started-secret-1\n"))
	names := strings.NewReplacer("dc1.corp.example dc2.corp.example", domain.KDC(), "CORP.EXAMPLE", "CORP.TEST", "svc-proxy@", "svc-started@")

	// The keytab, made as the page says; the shown version is that of a new account.
	keytab := e.folder.path + "/etc/caddy/svc-proxy.keytab"
	for _, code := range b.blocks(page) {
		if command, ok := strings.CutPrefix(code.text, "caddy kerberos keytab add svc-proxy.keytab "); ok {
			kerberos(t, "Started-secret-1\n", append([]string{"keytab", "add", keytab}, strings.Fields(names.Replace(command))...)...)
		}
	}
	if _, err := os.Stat(keytab); err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, code := range b.blocks(page) {
		if code.lang != "caddyfile" {
			continue
		}
		shown++
		address := caddytest.FreeAddress(t)
		// The lab's hosts are in no DNS, and its ports are others.
		text := strings.NewReplacer("app.example.com {", "http://"+address+" {",
			"iis.corp.example:80 {", iis.Addr()+" {", "transport negotiate {", "transport negotiate {\n\t\t\tspn "+iis.SPN()).Replace(names.Replace(code.text))
		if !strings.Contains(text, "\tkdc ") { // out of the DNS there
			text = strings.Replace(text, "transport negotiate {", "transport negotiate {\n\t\t\tkdc "+domain.KDC(), 1)
		}
		file := caddytest.WriteFile(t, filepath.Join(t.TempDir(), "Caddyfile"), []byte(e.folder.paths(text)))
		report := kerberos(t, "", "check", "--config", file)
		if !strings.Contains(report, "ok    upstream") || strings.Contains(report, "warn") {
			t.Errorf("the check is not content:\n%s", report)
		}
		e.runText(text)
		a := e.get("http://" + address + "/")
		if a.Status != http.StatusOK || a.Header.Get("X-Remote-User") != "svc-started@CORP.TEST" {
			t.Errorf("%v, seen as %q", a, a.Header.Get("X-Remote-User"))
		}
	}
	if shown != 2 {
		t.Errorf("the page shows %d configurations", shown)
	}
}
