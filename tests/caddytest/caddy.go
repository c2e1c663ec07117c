package caddytest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// Caddy is the Caddy of this process: an address, a folder and a log for one test.
// It runs from the first Load until the test ends.
type Caddy struct {
	T    *testing.T
	Addr string // of the first site
	Dir  string // for the test's files and Caddy's storage
	Log  *Log
}

// New reserves an address for Caddy, which does not run yet.
func New(t *testing.T) Caddy {
	t.Helper()
	return Caddy{T: t, Addr: FreeAddress(t), Dir: newDir(t), Log: newLog(t)}
}

// newDir is t.TempDir for a Caddyfile: its path does not have the test's name, which may
// look like a placeholder, and a ticket that is still being stored is no failure.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(tempDir, "test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Block is a block of a Caddyfile, or the whole line if in is empty.
func Block(name string, in ...string) string {
	return strings.TrimSpace(name+" {\n"+strings.Join(in, "\n")) + "\n}"
}

// Lines joins lines of a block.
func Lines(lines ...string) string { return strings.Join(lines, "\n\t\t") }

// Global is the block of global options: no admin endpoint, a storage in Dir, the
// log captured at a level, and more lines.
func (c *Caddy) Global(level string, more ...string) string {
	return Block("", append([]string{
		"admin off", "persist_config off", "auto_https off",
		"storage file_system " + c.Storage(),
		Block("log", "output capture "+c.Log.name, "level "+level),
	}, more...)...) + "\n"
}

// Storage is the folder of Caddy's storage. It is not in Dir: a ticket may still be
// written when the test removes that.
func (c *Caddy) Storage() string {
	return filepath.Join(tempDir, "storage", filepath.Base(c.Dir))
}

// Site is the site block of an address, for every host name. Its answers show the
// plugin's placeholders in X-Error, X-Error-Code, X-Source and X-SPN, those of
// handle_errors too.
func Site(address string, lines ...string) string {
	shown := []string{
		`X-Error "{http.negotiate.error}"`, `X-Error-Code "{http.negotiate.error.code}"`,
		`X-Source "{http.negotiate.source}"`, `X-SPN "{http.negotiate.spn}"`,
	}
	return Block("http://:"+Port(address), append([]string{"bind 127.0.0.1", Block("header", append(shown, "defer")...)}, append(lines,
		Block("handle_errors", Block("header", shown...), `respond "{err.status_code} {http.negotiate.error}"`))...)...) + "\n"
}

// Adapt makes JSON of a Caddyfile.
func Adapt(text string) ([]byte, []caddyconfig.Warning, error) {
	return caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
}

// TryLoad starts Caddy with a Caddyfile, or replaces the running configuration. Caddy
// is stopped when the test ends.
func TryLoad(t *testing.T, text string) error {
	t.Helper()
	adapted, _, err := Adapt(text)
	if err != nil {
		return err
	}
	return TryLoadJSON(t, adapted)
}

// TryLoadJSON is TryLoad with the JSON that Caddy takes.
func TryLoadJSON(t *testing.T, config []byte) error {
	t.Helper()
	t.Cleanup(func() { _ = caddy.Stop() })
	return caddy.Load(config, true)
}

// Load is TryLoad of a configuration that has to be good.
func Load(t *testing.T, text string) {
	t.Helper()
	if err := TryLoad(t, text); err != nil {
		t.Fatal(err)
	}
}

// Stop stops Caddy, and with it everything that the plugin holds in memory.
func Stop(t *testing.T) {
	t.Helper()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
}

// Write writes a file into Dir and returns its path.
func (c *Caddy) Write(name string, content []byte) string {
	c.T.Helper()
	return WriteFile(c.T, filepath.Join(c.Dir, name), content)
}

// URL is that of a path at the first site.
func (c *Caddy) URL(path string) string { return "http://" + c.Addr + path }
