package caddynegotiate_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestNamelessUpstreams(t *testing.T) {
	folder := logFolder(t)
	password, log := filepath.Join(folder, "password"), filepath.Join(folder, "log")
	if err := os.WriteFile(password, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "{\nadmin off\nlog default {\noutput file " + log + "\nformat json\n}\n" +
		"kerberos {\nidentity intranet {\nuser svc-proxy@CORP.EXAMPLE\npassword_file " + password + "\nkdc 127.0.0.1:1\nlogin_at_start off\n}\n}\n}\n:80 {\n"
	for _, proxy := range []string{
		"192.0.2.1:8080 web.corp.example:80 192.0.2.2:80 {\ntransport negotiate intranet\n}",
		"[2001:db8::1]:80 {\ntransport negotiate intranet\n}",
		"unix//run/web.sock {\ntransport negotiate intranet\n}",
		// The service is known, or only requests tell it.
		"web.corp.example {\ntransport negotiate intranet\n}",
		"192.0.2.3 {\ntransport negotiate intranet {\nspn HTTP/web.corp.example\n}\n}",
		"{env.WEB} {\ntransport negotiate intranet\n}",
		"192.0.2.4 {\ndynamic a web.corp.example 80\ntransport negotiate intranet\n}",
		"192.0.2.5",
	} {
		text += "handle {\nreverse_proxy " + proxy + "\n}\n"
	}
	if err := validate(text + "}\n"); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var warned []string
	for raw := range bytes.Lines(content) {
		var line map[string]string
		_ = json.Unmarshal(raw, &line) // skips fields that are not text
		if line["upstream"] == "" {
			continue
		}
		warned = append(warned, line["upstream"])
		if line["level"] != "warn" || line["logger"] != "http.reverse_proxy.transport.negotiate" || line["at"] == "" || line["remedy"] == "" {
			t.Errorf("got %s", raw)
		}
	}
	slices.Sort(warned)
	if want := []string{"192.0.2.1:8080", "192.0.2.2:80", "[2001:db8::1]:80", "unix//run/web.sock"}; !slices.Equal(warned, want) {
		t.Errorf("warned of %q, want %q\n%s", warned, want, content)
	}
}
