package caddynegotiate

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestLogNamesTheUserWhoIsNotActedFor(t *testing.T) {
	l := newCommandLab(t, nil, kdctest.SPN("HTTP/proxy.corp.example"), kdctest.With(kdctest.TrustedToAuth), kdctest.DelegateTo(labService))
	l.realm.AddService("HTTP/other.corp.example")
	l.realm.AddUser("alice", "x")
	r := l.serve()
	path := filepath.Join(r.folder, "log")
	r.log = "file " + path
	lines := []string{"impersonate {http.request.header.X-User}", "trust_header X-User", `deny_users CORP.EXAMPLE\bob`}
	r.load(r.identity("intranet"),
		"handle /other {\n\t\t"+r.proxied(append([]string{"intranet {", "spn HTTP/other.corp.example"}, lines...)...)+
			"\n\t}\n\thandle {\n\t\t"+r.proxied(append([]string{"intranet {", "spn " + labService}, lines...)...)+"\n\t}")
	for _, c := range []struct{ path, user, result string }{
		{"/", `corp.example\Bob`, errDeniedUser},
		{"/", "mallory", errUnknownUser},
		{"/", "a/b", errUnknownUser},
		{"/other", "alice", errNoDelegation},
	} {
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.address+c.path, nil)
		request.Header.Set("X-User", c.user)
		response, err := r.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("%s gets %d", c.user, response.StatusCode)
		}
		line := logLine(t, path, "request not authenticated")
		if line["user_id"] != c.user || line["result"] != c.result {
			t.Errorf("%s: the log says %v", c.user, line)
		}
	}
}

// logLine finds a message in a log file.
func logLine(t *testing.T, path, message string) map[string]any {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for raw := range bytes.Lines(content) {
		var line map[string]any
		if err := json.Unmarshal(bytes.Trim(raw, "\x00\n"), &line); err == nil && line["msg"] == message {
			return line
		}
	}
	t.Fatalf("no %q in %s", message, content)
	return nil
}
