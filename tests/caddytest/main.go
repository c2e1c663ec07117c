package caddytest

import (
	"os"
	"testing"

	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-negotiate/caddy-negotiate"
)

// Main runs a package's tests and exits. Caddy's data and configuration folders are
// temporary ones, so that a test leaves nothing in those of the user.
func Main(m *testing.M) { os.Exit(run(m)) }

// tempDir is removed when all tests of the package have ended.
var tempDir string

func run(m *testing.M) int {
	var err error
	if tempDir, err = os.MkdirTemp("", "caddytest-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(tempDir)
	os.Setenv("XDG_DATA_HOME", tempDir)
	os.Setenv("XDG_CONFIG_HOME", tempDir)
	return m.Run()
}

// LongEnv names the environment variable that, if it is 1, has tests run at full
// length: `tests/run -long` sets it.
const LongEnv = "CADDY_NEGOTIATE_LONG"

// Long is a number of requests: normally n, or most in a long run.
func Long(n, most int) int {
	if os.Getenv(LongEnv) == "1" {
		return most
	}
	return n
}
