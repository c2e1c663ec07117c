package caddynegotiate

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestUpstreamsWithoutANameAreWarnedOfAtLoad(t *testing.T) {
	r := newCommandLab(t, nil).serve()
	path := filepath.Join(r.folder, "log")
	r.log = "file " + path
	site := ""
	for _, proxy := range []string{
		"192.0.2.1:8080 web.corp.example:80 192.0.2.2:80 {\ntransport negotiate intranet\n}",
		"[2001:db8::1]:80 {\ntransport negotiate intranet\n}",
		"unix//run/web.sock {\ntransport negotiate intranet\n}",
		// Nothing is amiss, or nothing known.
		"web.corp.example {\ntransport negotiate intranet\n}",
		"192.0.2.3 {\ntransport negotiate intranet {\nspn " + labService + "\n}\n}",
		"{env.WEB} {\ntransport negotiate intranet\n}",
		"192.0.2.4 {\ndynamic a web.corp.example 80\ntransport negotiate intranet\n}",
		"192.0.2.5",
	} {
		site += "handle {\nreverse_proxy " + proxy + "\n}\n"
	}
	r.load(r.identity("intranet"), site)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var warned []string
	for raw := range bytes.Lines(content) {
		var line map[string]string
		_ = json.Unmarshal(raw, &line) // fields that are no text stay out
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
