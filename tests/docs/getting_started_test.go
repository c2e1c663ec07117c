package docs

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

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
func TestGettingStartedLeadsToAWorkingProxy(t *testing.T) {
	lab.Require(t, lab.AD, lab.HTTPD)
	const page = "docs/getting-started.md"
	b := readBook(t)
	domain := lab.SharedSamba(t)
	domain.Tool(t, "user", "create", "svc-started", "Started-secret-1")
	iis := lab.StartApache(t, lab.ApacheOptions{Realm: domain, Hosts: []string{"iis.corp.test"}})
	s := &stage{t: t, files: newCabinet(t), dns: nameServer(t)}
	t.Cleanup(s.transport.CloseIdleConnections)
	s.files.put("svc-proxy.password", []byte("Started-secret-1\n"))
	names := strings.NewReplacer("dc1.corp.example dc2.corp.example", domain.KDC(), "CORP.EXAMPLE", "CORP.TEST", "svc-proxy@", "svc-started@")

	// The keytab, made as the page says; the shown version is that of a new account.
	keytab := s.files.folder + "/etc/caddy/svc-proxy.keytab"
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
		address := freeAddress(t)
		// The lab's hosts are in no DNS, and its ports are others.
		text := strings.NewReplacer("app.example.com {", "http://"+address+" {",
			"iis.corp.example:80 {", iis.Addr()+" {", "transport negotiate {", "transport negotiate {\n\t\t\tspn "+iis.SPN()).Replace(names.Replace(code.text))
		if !strings.Contains(text, "\tkdc ") { // out of the DNS there
			text = strings.Replace(text, "transport negotiate {", "transport negotiate {\n\t\t\tkdc "+domain.KDC(), 1)
		}
		file := filepath.Join(t.TempDir(), "Caddyfile")
		if err := os.WriteFile(file, []byte(s.files.take(text)), 0o600); err != nil {
			t.Fatal(err)
		}
		report := kerberos(t, "", "check", "--config", file)
		if !strings.Contains(report, "ok    upstream") || strings.Contains(report, "warn") {
			t.Errorf("the check is not content:\n%s", report)
		}
		s.performText(text)
		res, _ := s.get("http://" + address + "/")
		if res.StatusCode != http.StatusOK || res.Header.Get("X-Remote-User") != "svc-started@CORP.TEST" {
			t.Errorf("%s, seen as %q", res.Status, res.Header.Get("X-Remote-User"))
		}
	}
	if shown != 2 {
		t.Errorf("the page shows %d configurations", shown)
	}
}
