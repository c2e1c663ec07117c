package command_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"caddy": caddycmd.Main})
}

// TestScripts runs testdata/*.txtar, each in a directory of its own. `admin` starts an admin
// endpoint that answers from the directory's files and sets ADMIN to its address.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_DATA_HOME", env.WorkDir)
			env.Setenv("XDG_CONFIG_HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"admin": startAdmin},
	})
}

func startAdmin(ts *testscript.TestScript, _ bool, _ []string) {
	directory := ts.MkAbs(".")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := os.ReadFile(path.Join(directory, path.Base(r.URL.Path)+".json"))
		if err != nil || strings.Contains(r.URL.RawQuery, "unknown") {
			http.Error(w, `{"error":"no such identity"}`, http.StatusNotFound)
			return
		}
		_ = os.WriteFile(path.Join(directory, "asked"), []byte(r.Method+" "+r.URL.RequestURI()+"\n"), 0o600)
		if strings.Contains(string(answer), `{"ready": false`) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write(answer)
	}))
	ts.Defer(server.Close)
	ts.Setenv("ADMIN", server.Listener.Addr().String())
}
