package operations

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

// The remedy names password_file in the log and in the admin endpoint.
func TestLog_RemedyForPasswordFile(t *testing.T) {
	s := newSite(t, caddytest.Options{})
	s.load(nil, s.proxy("", "user "+caddytest.Principal, "password_file "+s.Write("password", []byte("wrong")), "kdc "+s.KDC.Addr(), "login_at_start off"))
	s.Get("/").WantError(t, http.StatusBadGateway, "credentials_refused")
	remedies := []string{s.identities()[0].Breaker.Remedy}
	for _, message := range []string{"cannot log in", "request not authenticated"} {
		s.Log.Await(t, message, 1)
		for line := range strings.Lines(s.Log.String()) {
			var entry struct{ Msg, Remedy string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == message {
				remedies = append(remedies, entry.Remedy)
			}
		}
	}
	if len(remedies) != 3 {
		t.Fatalf("remedies %q", remedies)
	}
	for _, remedy := range remedies {
		if !strings.Contains(remedy, "password_file") || strings.Contains(remedy, "keytab") {
			t.Error(remedy)
		}
	}
}
