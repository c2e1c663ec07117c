package operations

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

// The remedy names password_file, in the admin endpoint and in the log, which has the failure once.
func TestLog_RemedyForPasswordFile(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.load(nil, s.proxy("", "user "+caddytest.Principal, "password_file "+s.Write("password", []byte("wrong")), "kdc "+s.KDC.Addr(), "login_at_start off"))
	s.Get("/").WantError(t, http.StatusBadGateway, "credentials_refused")
	s.Log.Await(t, "cannot log in", 1)
	remedies := []string{s.identities()[0].Breaker.Remedy}
	for line := range strings.Lines(s.Log.String()) {
		var entry struct{ Msg, Remedy string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		switch entry.Msg {
		case "cannot log in":
			remedies = append(remedies, entry.Remedy)
		case "request not authenticated":
			t.Errorf("the same failure is logged for the request, too: %s", line)
		}
	}
	if len(remedies) != 2 {
		t.Fatalf("remedies %q", remedies)
	}
	for _, remedy := range remedies {
		if !strings.Contains(remedy, "password_file") || strings.Contains(remedy, "keytab") {
			t.Error(remedy)
		}
	}
}
