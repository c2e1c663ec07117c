package delegation

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

// The log has the name that the user signed in with; the response has not.
func TestFailureLogsUser(t *testing.T) {
	e := newEnv(t, caddytest.Options{})
	const other = "HTTP/other.corp.example" // outside the delegation list
	e.Realm.AddService(other)
	proxy := func(spn string) string {
		return caddytest.Block("reverse_proxy "+e.Upstream.Addr(), e.transport("spn "+spn, byHeader, `deny_users CORP.EXAMPLE\bob`))
	}
	load(&e.Caddy, "", caddytest.Block("handle /other", proxy(other)), caddytest.Block("handle", proxy(webSPN)))
	for _, c := range []struct{ path, user, word string }{
		{"/", `corp.example\Bob`, "user_denied"},
		{"/", "mallory", "user_unknown"},
		{"/", "a/b", "user_unknown"},
		{"/other", "alice", "delegation_refused"},
	} {
		before := len(e.Log.String())
		if a := e.Get(c.path, asUser(c.user)); a.Status != http.StatusForbidden || strings.Contains(a.Body, c.user) {
			t.Errorf("%s: %v", c.user, a)
		}
		if !logged(e.Log.String()[before:], c.user, c.word) {
			t.Errorf("%s: no line with user_id and %s", c.user, c.word)
		}
	}
}

// logged reports whether a failure is logged with a user and a result.
func logged(text, user, result string) bool {
	for raw := range strings.Lines(text) {
		var line struct {
			Msg, Result string
			UserID      string `json:"user_id"`
		}
		if json.Unmarshal([]byte(raw), &line) == nil && line.Msg == "request not authenticated" && line.UserID == user && line.Result == result {
			return true
		}
	}
	return false
}
